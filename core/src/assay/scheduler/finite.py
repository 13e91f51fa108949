"""Whether an array holds only finite values, as cheaply as the question allows."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any

import numpy as np
from numpy import vdot
from numpy.typing import NDArray

TINY = 16
SMALL = 4096
"""Elements up to which every value is looked at on every call."""

SAMPLE = 64
CHUNK = 1 << 18
"""Elements looked at in one go, which bounds the memory that looking takes."""

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
    size = int(np.prod(shape))
    if dtype.char not in "fd" or not 0 < size <= SMALL:
        return None
    return tiny_finite if size <= TINY and len(shape) == 1 else small_finite


def always_finite(array: NDArray[Any]) -> bool:
    """For numbers that know nothing else."""
    return True


def tiny_finite(array: NDArray[Any]) -> bool:
    """For a row of few numbers: their sum is not finite if any of them is not."""
    return isfinite(sum(array.tolist()))


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
