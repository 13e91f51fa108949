"""Whether an array holds only finite values, as cheaply as the question allows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SMALL = 4096
"""Elements up to which every value is looked at on every call."""

SAMPLE = 64
SHARE = 0.02
"""The share of a kernel's own time that looking at its results may take."""

SECONDS_PER_ELEMENT = 0.3e-9
"""What looking at one element costs, generously."""


def all_finite(array: NDArray[Any]) -> bool:
    """Whether every value is finite; True for dtypes that know nothing else.

    The sum of squares is not finite if any element is not. It may overflow where none is infinite,
    so only then is each element asked.
    """
    if array.dtype.kind not in "fcV" or not array.size:
        return True
    if array.dtype.kind == "f" and array.itemsize >= 4 and array.flags.c_contiguous:
        flat = array.reshape(-1)
        with np.errstate(all="ignore"):
            if all(_finite_dot(flat[i : i + 8192]) for i in range(0, flat.size, 8192)):
                return True
    return bool(np.isfinite(array).all())


def _finite_dot(chunk: NDArray[Any]) -> bool:
    square = float(np.dot(chunk, chunk))
    return square - square == 0.0


def spread_finite(array: NDArray[Any], turn: int) -> bool:
    """Whether a spread sample is finite; another one at each turn."""
    if array.dtype.kind not in "fcV" or not array.size:
        return True
    step = max(1, array.size // SAMPLE)
    positions = np.arange(turn % step, array.size, step)
    return bool(
        np.isfinite(
            array.ravel(order="K")[positions] if array.flags.c_contiguous else array.flat[positions]
        ).all()
    )
