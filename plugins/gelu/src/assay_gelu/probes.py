"""The requests that an implementation of ``gelu`` is proved on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import assay
import numpy as np
from numpy.typing import NDArray

LARGEST = {"float16": 6e4}
"""Below the largest finite number, where that is under 1e30."""

SHAPES: tuple[tuple[int, ...], ...] = (
    (),
    (0,),
    (3, 0, 2),
    (1,),
    (7,),
    (16, 17),
    (511,),
    (512,),
    (513,),
    (2, 3, 5, 7, 11),
    (2047,),
    (2048,),
    (1, 2049),
    (24, 1536),
)
"""None, few and many elements, primes, the usual sizes of a device's tile and their neighbours, and one that
is larger than any cache block."""


def probes(rng: np.random.Generator, domain: assay.Domain) -> Iterator[assay.Probe]:
    """Every shape and some drawn ones, and for each dtype the ranges where approximations of GELU go wrong.

    Values of "none" and "tanh" differ by up to 5e-4 on nearly all of them. Infinities are left out:
    libraries do not agree on them.
    """
    forms = domain.values("approximate", ("none", "tanh"))
    for name in domain.dtypes:
        dtype = _dtype(name)
        for form in forms:
            for what, values in _ranges(rng, LARGEST.get(name, 1e30)):
                yield assay.Probe(f"{what}, {form}, {name}", (values.astype(dtype),), {"approximate": form})
    dtype = _dtype(domain.dtypes[0])
    drawn = [(int(rng.integers(3, most)),) for most in (40, 400, 4_000, 200_000)]
    for index, shape in enumerate([*SHAPES, *drawn]):
        x = rng.uniform(-6, 6, shape)
        form = forms[index % len(forms)]
        yield assay.Probe(f"shape {shape}, {form}", (np.asarray(x, dtype),), {"approximate": form})


def _ranges(rng: np.random.Generator, largest: float) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Names and float64 values, each in random order."""
    yield "whole curve", rng.permutation(np.linspace(-8, 8, 97) + rng.uniform(-0.08, 0.08, 97))
    tiny = np.outer([-1, 1], [0, 5e-324, 1e-45, 1e-39, 1e-38, 6e-8])
    yield "signed zeros and denormals", rng.permutation(tiny.ravel())
    yield "near zero", rng.choice([-1, 1], 200) * 10 ** rng.uniform(-7, -0.5, 200)
    yield "negative tail", rng.uniform(-5, -3, 500)
    yield "saturation", rng.choice([-1, 1], 300) * rng.uniform(5, 120, 300)
    yield "the result is the input", rng.uniform(20, 100, 50)
    yield "large magnitudes", rng.choice([-1, 1], 100) * 10 ** rng.uniform(3, math.log10(largest), 100)
    yield "noise", rng.normal(0, 2, 4000)
    small = rng.normal(0, 0.5, 600)
    small[rng.integers(600)] = largest
    yield "one huge among small", small


def _dtype(name: str) -> np.dtype[Any]:
    if name == "bfloat16":
        import ml_dtypes  # noqa: F401  # makes the name known to NumPy

    return np.dtype(name)
