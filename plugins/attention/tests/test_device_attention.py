"""The device's attention: bit for bit the integer arithmetic it claims, and within 2 % of the values."""

from __future__ import annotations

import math
import struct
from typing import Any

import assay
import numpy as np
import numpy.typing as npt
import pytest
from assay_attention import ATTENTION, device
from assay_attention.pairs import resolve, split
from assay_attention.probes import probes
from assay_attention.reference import reference

Array = npt.NDArray[Any]
TILE = device.TILE


def run(q: Array, k: Array, v: Array, mask: Array, scales: int) -> Array:
    """Run the device function over bytes; returns the result's buffer."""
    items = mask.size // (2 * TILE * TILE)
    result = np.full(items * TILE * TILE + 4 * scales, 0x5A, np.uint8)
    device.attention_tile(q, k, v, mask, result)
    return result


def attend(q: Array, k: Array, v: Array, mask: Array, scale: float) -> Array:
    """Attention of real tiles through the device."""
    buffers = (
        device.quantise(q, np.int16, factor=scale),
        device.quantise(k, np.int16),
        device.quantise(v, np.int8),
        device.quantise_mask(mask),
    )
    return device.dequantise(run(*buffers, len(q)), len(q))


def scalar_row(
    q: list[int], keys: list[list[int]], values: list[list[int]], mask: list[int], factor: float
) -> list[int]:
    """One query in Python's integers, from the description of the arithmetic."""
    fraction, exponent = math.frexp(factor)
    whole, right = math.floor(fraction * 2**24), max(1, 8 - exponent)
    step = round(math.log2(math.e) / 512 * 2**24)
    scores = []
    for key, bias in zip(keys, mask, strict=True):
        product = sum(a * b for a, b in zip(q, key, strict=True))
        scores.append(((product * whole + (1 << (right - 1))) >> right) + ((bias * step + 128) >> 8))
    seen = [s for s, bias in zip(scores, mask, strict=True) if bias != -32768]
    weights = []
    for score, bias in zip(scores, mask, strict=True):
        if bias == -32768:
            weights.append(0)
            continue
        below = max(score - max(seen), -32 * 2**16)
        knot, rest = (below & 0xFFFF) >> 8, below & 0xFF
        low, high = (round(2.0 ** ((knot + i) / 256) * 2**24) for i in (0, 1))
        weights.append((low + (((high - low) * rest + 128) >> 8)) >> -(below >> 16))
    reciprocal = 2**46 // max(sum(weights), 1)
    columns = zip(*values, strict=True)
    return [(sum(w * v for w, v in zip(weights, c, strict=True)) * reciprocal + 2**45) >> 46 for c in columns]


def test_bit_exact() -> None:
    """Every code is that of a model in Python's integers, for flat, sharp and absurd scores."""
    rng = np.random.default_rng(1)
    shape = (6, TILE, TILE)
    q, k = (rng.integers(-32768, 32767, shape, endpoint=True).astype(np.int16) for _ in range(2))
    v = rng.integers(-128, 127, shape, endpoint=True).astype(np.int8)
    mask = rng.integers(-3000, 3000, shape).astype(np.int16)
    mask[rng.random(shape) < 0.3] = device.HIDDEN
    mask[0, :2] = device.HIDDEN
    mask[1, 0, 0] = 32767
    q_scales = np.array([1e-5, 1e-7, 1e-4, 1e-6, 1e-12, 1e9], np.float32)
    k_scales = np.array([1e-5, 1e-4, 1e-4, 3e-6, 1e-9, 1e9], np.float32)
    v_scales = rng.uniform(0.1, 1, 6).astype(np.float32)
    buffers = [
        np.concatenate([codes.view(np.uint8).ravel(), scales.view(np.uint8)])
        for codes, scales in ((q, q_scales), (k, k_scales), (v, v_scales))
    ]
    result = run(buffers[0], buffers[1], buffers[2], mask.view(np.uint8).ravel(), 6)
    codes = result[: v.size].view(np.int8).reshape(shape)
    assert result[v.size :].tobytes() == v_scales.tobytes()
    for item in range(6):
        factor = float(q_scales[item]) * float(k_scales[item]) * math.log2(math.e)
        for row in (0, 1, 17, 63):
            expected = scalar_row(
                q[item, row].tolist(),
                k[item].tolist(),
                v[item].tolist(),
                mask[item, row].tolist(),
                factor,
            )
            assert codes[item, row].tolist() == expected


class Domain:
    """The device's: float32, no softcap."""

    dtypes = ("float32",)

    def values(self, name: str, otherwise: Any) -> Any:
        """What a probe draws from."""
        return (0.0,) if name == "softcap" else otherwise


DOMAIN: Any = Domain()


def test_every_probe_that_fits() -> None:
    """On every probe that fits the tile the result is within the approximate tolerance."""
    served = 0
    for probe in probes(np.random.default_rng(2), DOMAIN):
        params = resolve(probe.inputs, probe.params)
        try:
            pairs = split(probe.inputs, params, item_shape=(TILE,) * 4, out=None)
        except assay.InvalidInput:
            continue
        if pairs.count:
            blocks = [np.empty((pairs.count, *shape), np.float32) for shape in pairs.shapes]
            pairs.load(0, pairs.count, blocks)
            q, k, v, mask = blocks
            pairs.store(0, pairs.count, attend(q, k, v, mask, params["scale"]))
        inputs: Any = probe.inputs
        expected = reference(*inputs, **probe.params)
        limit = ATTENTION.tolerance("", probe.inputs, probe.params, expected, assay.Accuracy.APPROXIMATE)
        assert np.all(np.abs(pairs.result() - expected) <= limit.max_abs), probe.name
        served += 1
    assert served > 40


def test_a_row_that_sees_nothing() -> None:
    """A query without keys gives zeros."""
    rng = np.random.default_rng(3)
    q, k, v = (rng.normal(size=(2, TILE, TILE)) for _ in range(3))
    mask = np.zeros((2, TILE, TILE))
    mask[1, 5] = -np.inf
    got = attend(q, k, v, mask, 0.125)
    assert not got[1, 5].any()
    assert got[1, 4].any()
    assert got[0, 5].any()


def test_equal_scores_give_the_mean() -> None:
    """With all scores equal every query gets the mean of the values, to the rounding of its codes."""
    v = np.random.default_rng(4).uniform(0, 1, (1, TILE, TILE))
    zeros = np.zeros((1, TILE, TILE))
    got = attend(zeros, zeros, v, zeros, 1.0)
    step = v.max() / 127
    assert np.abs(got - v.mean(axis=1, keepdims=True)).max() <= step


@pytest.mark.parametrize("size", [1, 2, 7])
def test_a_block_is_its_items(size: int) -> None:
    """Items give the same codes alone and in a block."""
    rng = np.random.default_rng(5)
    q, k, v, mask = (rng.normal(size=(7, TILE, TILE)) for _ in range(4))
    whole = attend(q, k, v, mask, 0.125)
    assert np.array_equal(attend(q[:size], k[:size], v[:size], mask[:size], 0.125), whole[:size])


def test_one_scale_for_all() -> None:
    """A single scale behind the codes serves all items."""
    rng = np.random.default_rng(6)
    codes = rng.integers(-9000, 9000, (3, TILE, TILE)).astype(np.int16)
    v = rng.integers(-128, 127, (3, TILE, TILE)).astype(np.int8)
    mask = np.zeros(codes.nbytes, np.uint8)

    def buffers(count: int) -> tuple[Array, Array, Array]:
        tail = np.full(count, 2e-4, np.float32).view(np.uint8)
        x = np.concatenate([codes.view(np.uint8).ravel(), tail])
        return x, x, np.concatenate([v.view(np.uint8).ravel(), tail])

    one, each = (run(*buffers(count), mask, count) for count in (1, 3))
    assert np.array_equal(one[: v.size], each[: v.size])
    assert struct.unpack("<f", one[v.size :].tobytes()) == (np.float32(2e-4),)


def test_mask_codes() -> None:
    """Minus infinity becomes the code that hides a key, and so does what is below -64."""
    mask = np.array([0.0, 1.0, -1.5, -np.inf, -1e9, 1e9, -63.9])
    codes = device.quantise_mask(mask).view(np.int16)
    assert codes.tolist() == [0, 512, -768, device.HIDDEN, device.HIDDEN, 32767, round(-63.9 * 512)]
