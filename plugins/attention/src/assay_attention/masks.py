"""Masks: who sees whom, in the forms that libraries and item kernels take."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay_attention.sizes import Sizes


def causal_mask(length: int, keys: int, offset: int) -> NDArray[np.bool_]:
    """(length, keys), True where key j is at most query i + offset."""
    return np.tri(length, keys, offset, dtype=np.bool_)


def with_causal(mask: NDArray[Any] | None, seen: NDArray[np.bool_]) -> NDArray[Any]:
    """A mask of either kind in which only what is ``seen`` as well takes part."""
    if mask is None:
        return seen
    if mask.dtype == np.bool_:
        return mask & seen
    return np.where(seen, mask, mask.dtype.type(-np.inf))


def four_axes(mask: NDArray[Any], sizes: Sizes) -> NDArray[Any]:
    """The same mask with the axes (batch or 1, heads or 1, length, keys)."""
    if len(sizes.leading) > 1:
        mask = np.broadcast_to(mask, sizes.scores)
        return mask.reshape(sizes.batch, sizes.heads, sizes.length, sizes.keys)
    mask = mask.reshape((1,) * (4 - mask.ndim) + mask.shape)
    return np.ascontiguousarray(np.broadcast_to(mask, (*mask.shape[:2], sizes.length, sizes.keys)))
