"""Whether an array holds only finite values, as cheaply as the question allows."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from math import isfinite
from typing import Any

import numpy as np
from numpy import vdot
from numpy.typing import NDArray

TINY = 64
"""Elements up to which looking at their bits is quicker than calculating with them."""

SMALL = 4096
"""Elements up to which every value is looked at on every call."""

SAMPLE = 64
CHUNK = 1 << 18
"""Elements looked at in one go, which bounds the memory that looking takes."""

EXPONENTS = {"e": 0x7C00, "f": 0x7F80_0000, "d": 0x7FF0_0000_0000_0000}
"""The bits of the exponent, by the dtype's character."""

SHARE = 0.02
"""The share of a kernel's own time that looking at its results may take."""

SECONDS_PER_ELEMENT = 0.3e-9
"""What looking at one element costs, generously."""


Look = Callable[[NDArray[Any]], bool]


def all_finite(array: NDArray[Any]) -> bool:
    """Whether every value is finite; True for dtypes that know nothing else."""
    if array.dtype.kind not in "fcV" or not array.size:
        return True
    if array.size <= SMALL and array.dtype.char in "fd" and small_finite(array):
        return True
    if array.size <= CHUNK:
        return bool(np.isfinite(array).all())
    flat = array.ravel(order="K")  # a view, where the memory is in one piece
    return all(np.isfinite(flat[i : i + CHUNK]).all() for i in range(0, flat.size, CHUNK))


def quick_look(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Look | None:
    """The cheapest look at every value of a small result; None where there is none.

    Its False is no proof: the sums that it takes may overflow where no value is infinite.
    """
    if dtype.kind not in "fcV":
        return always_finite
    size = math.prod(shape)
    if 0 < size <= TINY and dtype.char in EXPONENTS:
        return bits_finite(size, dtype)
    return small_finite if dtype.char in "fd" and 0 < size <= SMALL else None


def always_finite(array: NDArray[Any]) -> bool:
    """For numbers that know nothing else."""
    return True


def bits_finite(size: int, dtype: np.dtype[Any]) -> Look:
    """For few numbers, read as one large integer: no exponent is all ones (IEEE 754, 3.4), which is exact.

    Added to an exponent that is all ones, its lowest bit carries into the sign's place, which was cleared.
    """
    exponent, width = EXPONENTS[dtype.char], 8 * dtype.itemsize
    ones = sum(1 << width * i for i in range(size))
    exponents, lowest, signs = ones * exponent, ones * (exponent & -exponent), ones << width - 1
    number, order = int.from_bytes, sys.byteorder

    def look(array: NDArray[Any]) -> bool:
        return not (number(array.tobytes(), order) & exponents) + lowest & signs

    return look


def small_finite(array: NDArray[Any]) -> bool:
    """For real numbers: the sum of their squares is not finite if any of them is not."""
    return isfinite(vdot(array, array))


def spread_finite(array: NDArray[Any], turn: int) -> bool:
    """Whether a spread sample is finite; another one at each turn."""
    if array.dtype.kind not in "fcV" or not array.size:
        return True
    step = max(1, array.size // SAMPLE)
    positions = np.arange(turn % step, array.size, step)
    flat = array.ravel(order="K") if array.flags.c_contiguous or array.flags.f_contiguous else array.flat
    return bool(np.isfinite(flat[positions]).all())
