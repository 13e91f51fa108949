"""GELU in plain NumPy: polynomials over blocks that stay in the cache, no erf needed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

BLOCK = 16384
"""Elements per block: its input, output and two scratch arrays (256 KB) fit a second-level cache,
and the cost of calling a ufunc is small against its work."""


def _constant(value: float) -> Float32:
    # A 0-d array: NumPy converts a Python number anew for every block.
    return np.array(value, np.float32)


# Both forms are gelu(x) = max(x, 0) - h(|x|) with h(a) = a (1 - F(a)), F the distribution or its
# approximation by tanh. h(a) is a over something that grows fast and overflows soon: h is 0 then. So that
# infinity over infinity does not arise, a stops at LARGE. LARGE and ZERO are arrays of a block's length:
# NumPy's minimum and maximum with a scalar are several times slower.
LARGE = np.full(BLOCK, 1e4, np.float32)
ZERO = np.zeros(BLOCK, np.float32)
HALF = _constant(0.5)
ONE = _constant(1)

ERFC = [
    _constant(6.332987240725019e-06),
    _constant(4.138382035085531e-05),
    _constant(5.971793756669285e-05),
    _constant(0.0032493157556927415),
    _constant(0.02115729722644772),
    _constant(0.04986413752536899),
]
"""erfc(a / sqrt 2) = p(a)^-16, p(a) = 1 + ... (these are the coefficients of a^6 down to a): the form of
Hastings' approximation (Abramowitz and Stegun 7.1.28), fitted anew so that the largest error of
a/2 erfc(a / sqrt 2) over 0..6 is least: 2.5e-7."""

CUBE = _constant(2 * math.sqrt(2 / math.pi) * 0.044715)
LINE = _constant(2 * math.sqrt(2 / math.pi))


def gelu(x: Float32, *, approximate: str, out: Float32) -> Float32:
    """float32 GELU, within 8e-7 of the definition; NaN gives NaN, minus infinity 0."""
    mirrored = _by_tanh if approximate == "tanh" else _by_erfc
    flat, result = x.reshape(-1), out.reshape(-1)
    scratch = np.empty((2, min(BLOCK, x.size)), np.float32)
    with np.errstate(over="ignore"):
        for start in range(0, x.size, BLOCK):
            _block(flat[start : start + BLOCK], result[start : start + BLOCK], scratch, mirrored)
    return out


def _block(x: Float32, out: Float32, scratch: Float32, mirrored: Callable[[Float32, Float32], Any]) -> None:
    a, p = scratch[:, : x.size]
    np.absolute(x, out=a)
    np.minimum(a, LARGE[: x.size], out=a)
    mirrored(a, p)
    np.maximum(x, ZERO[: x.size], out=out)
    np.subtract(out, a, out=out)


def _by_erfc(a: Float32, p: Float32) -> None:
    """Replace a by h(a) = a/2 erfc(a / sqrt 2)."""
    np.multiply(a, ERFC[0], out=p)
    for coefficient in ERFC[1:]:
        np.add(p, coefficient, out=p)
        np.multiply(p, a, out=p)
    np.add(p, ONE, out=p)
    for _ in range(4):
        np.square(p, out=p)
    np.divide(a, p, out=a)
    np.multiply(a, HALF, out=a)


def _by_tanh(a: Float32, p: Float32) -> None:
    """Replace a by h(a) = a / (1 + exp(2 u)), u = sqrt(2/pi) (a + 0.044715 a^3)."""
    np.square(a, out=p)
    np.multiply(p, CUBE, out=p)
    np.add(p, LINE, out=p)
    np.multiply(p, a, out=p)
    np.exp(p, out=p)
    np.add(p, ONE, out=p)
    np.divide(a, p, out=a)
