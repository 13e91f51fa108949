"""The requests that an implementation of ``attention`` is proved on."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

import assay
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

EDGES = (1, 63, 64, 65, 127, 128, 129)
"""Lengths on both sides of the usual tiles."""


def probes(rng: np.random.Generator, domain: assay.Domain) -> Iterator[assay.Probe]:
    """Sizes, scores, heads, causal rules, masks, softcaps and scales; a third of them for further dtypes."""
    groups = (_sizes, _scores, _heads, _causal, _masks, _softcaps_and_scales)
    for index, name in enumerate(domain.dtypes):
        draw = _Draw(rng, domain, np.dtype(name))
        requests = chain.from_iterable(group(draw) for group in groups)
        yield from islice(requests, 0, None, 3 if index else 1)


class _Draw:
    """Draws requests of one dtype; what a probe does not name has its plainest value in the domain."""

    def __init__(self, rng: np.random.Generator, domain: assay.Domain, dtype: np.dtype[Any]) -> None:
        self.rng = rng
        self.domain = domain
        self.dtype = dtype
        usual = {"causal": False, "causal_offset": 0, "scale": None, "softcap": 0.0}
        self.plain = {name: domain.values(name, (value,))[0] for name, value in usual.items()}

    def values(self, *shape: int) -> Array:
        """Normal noise."""
        return self.rng.standard_normal(shape).astype(self.dtype)

    def inputs(
        self,
        *heads: int,
        length: int = 19,
        keys: int = 37,
        depth: int = 64,
        group: int = 1,
        value_depth: int = 0,
    ) -> tuple[Array, Array, Array]:
        """q, k and v of noise; ``heads`` are all axes before the length, ``group`` heads share a key head."""
        shared = (*heads[:-1], heads[-1] // group) if heads else ()
        return (
            self.values(*heads, length, depth),
            self.values(*shared, keys, depth),
            self.values(*shared, keys, value_depth or depth),
        )

    def probe(
        self, name: str, q: Array, k: Array, v: Array, mask: Array | None = None, **params: Any
    ) -> assay.Probe:
        """A probe; an additive mask is cast to its dtype."""
        if mask is not None and mask.dtype != np.bool_:
            mask = mask.astype(self.dtype)
        return assay.Probe(f"{name}, {self.dtype}", (q, k, v, mask), {**self.plain, **params})


def _sizes(draw: _Draw) -> Iterator[assay.Probe]:
    yield draw.probe("three heads", *draw.inputs(3, length=33, keys=49))
    for length, keys in zip(EDGES, EDGES[3:] + EDGES[:3], strict=True):
        yield draw.probe(f"{length} x {keys}", *draw.inputs(1, length=length, keys=keys))
    for depth in (1, 17, 80, 128):
        yield draw.probe(f"depth {depth}", *draw.inputs(2, depth=depth))
    yield draw.probe("values less deep than keys", *draw.inputs(2, value_depth=40))
    yield draw.probe("values deeper than keys", *draw.inputs(2, depth=48, value_depth=64))
    yield draw.probe("(length, depth)", *draw.inputs())
    yield draw.probe("(batch, heads, length, depth)", *draw.inputs(3, 2))
    yield draw.probe("two leading axes", *draw.inputs(2, 3, 2, length=5, keys=6, depth=16))
    for most in ((2_000, 40), (40, 2_000), (1_000, 1_000)):
        length, keys = (int(draw.rng.integers(n // 2, n) + n // 8) for n in most)
        yield draw.probe(f"long, {length} x {keys}", *draw.inputs(1, length=length, keys=keys, depth=24))
    yield draw.probe("no keys", *draw.inputs(2, keys=0))
    yield draw.probe("no queries", *draw.inputs(2, length=0))


def _scores(draw: _Draw) -> Iterator[assay.Probe]:
    q, k, v = draw.inputs(2)
    yield draw.probe("all scores equal", np.zeros_like(q), k, v)
    yield draw.probe("all keys equal", q, np.repeat(k[:, :1], k.shape[1], axis=1), v)
    yield draw.probe("large scores", 10 * q, k, v)
    yield draw.probe("huge scores", 100 * q, k, v)  # several hundred: exp without a shift overflows

    # The one key that matters stands half the sequence away: attention inside tiles misses it.
    q, k, v = draw.inputs(2, length=192, keys=192)
    yield draw.probe("each query's key is far away", q, np.roll(2 * q, 96, axis=1), v)
    q, k, v = draw.inputs(1, length=4, keys=1100)
    k[:, [3, 500, 700, 1097]] = 2 * q
    yield draw.probe("one key among many", q, k, v)


def _heads(draw: _Draw) -> Iterator[assay.Probe]:
    yield draw.probe("six heads", *draw.inputs(6))
    for group in (2, 4):
        yield draw.probe(f"four heads, {group} per key head", *draw.inputs(4, group=group))
    yield draw.probe("batch of grouped heads", *draw.inputs(2, 6, group=3, length=9, keys=11))


def _causal(draw: _Draw) -> Iterator[assay.Probe]:
    for offset in draw.domain.values("causal_offset", (0, 5, -3, 60)):
        for length, keys in ((5, 9), (9, 5), (65, 129)):
            yield draw.probe(
                f"causal from {offset}, {length} x {keys}",
                *draw.inputs(2, length=length, keys=keys),
                causal=True,
                causal_offset=offset,
            )
    yield draw.probe("causal, grouped heads", *draw.inputs(4, group=2, length=130, keys=130), causal=True)


def _masks(draw: _Draw) -> Iterator[assay.Probe]:
    rng = draw.rng
    for shape in ((19, 37), (1, 37), (19, 1), (37,), (2, 19, 37), (3, 1, 1, 37), (3, 2, 19, 37)):
        takes_part = rng.random(shape) < 0.6
        yield draw.probe(f"boolean mask {shape}", *draw.inputs(3, 2), takes_part)
        bias = rng.normal(0, 2, shape)
        bias[rng.random(shape) < 0.3] = -np.inf
        yield draw.probe(f"additive mask {shape}", *draw.inputs(3, 2), bias)

    takes_part = rng.random((19, 37)) < 0.5
    takes_part[[0, 7]] = False
    hidden = np.where(takes_part, 0.0, -np.inf)
    yield draw.probe("rows that see nothing, boolean", *draw.inputs(2), takes_part)
    yield draw.probe("rows that see nothing, additive", *draw.inputs(2), hidden)
    yield draw.probe("mask and causal", *draw.inputs(2), takes_part, causal=True)
    yield draw.probe("additive mask and causal", *draw.inputs(4, group=2), hidden, causal=True)
    yield draw.probe("mask without head axis", *draw.inputs(), takes_part)
    long = rng.random((2, 130, 150)) < 0.5
    yield draw.probe("large mask, one per head", *draw.inputs(2, length=130, keys=150), long)


def _softcaps_and_scales(draw: _Draw) -> Iterator[assay.Probe]:
    for cap in draw.domain.values("softcap", (2.0, 20.0)):
        q, k, v = draw.inputs(2)
        q *= np.asarray(max(cap, 1), draw.dtype)  # so that the cap bends the scores
        bias = draw.rng.normal(0, max(cap, 1), (19, 37))
        yield draw.probe(f"softcap {cap}", q, k, v, softcap=cap)
        yield draw.probe(f"softcap {cap} and a mask beyond it", q, k, v, bias, softcap=cap)
        yield draw.probe(f"softcap {cap} and hidden keys", q, k, v, bias > 0, softcap=cap)
    for scale in draw.domain.values("scale", (0.3, 1.0, 0.01)):
        yield draw.probe(f"scale {scale}", *draw.inputs(2), scale=scale)
