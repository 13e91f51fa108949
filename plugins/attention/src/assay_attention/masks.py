"""Masks, and arrays, in the forms that libraries and item kernels take."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay_attention.sizes import sizes

Array = NDArray[Any]


def causal_mask(length: int, keys: int, offset: int) -> NDArray[np.bool_]:
    """(length, keys), True where key j is at most query i + offset."""
    return np.tri(length, keys, offset, dtype=np.bool_)


def with_causal(mask: Array | None, seen: NDArray[np.bool_]) -> Array:
    """A mask of either kind in which only what is ``seen`` as well takes part."""
    if mask is None:
        return seen
    if mask.dtype == np.bool_:
        return mask & seen
    return np.where(seen, mask, mask.dtype.type(-np.inf))


def four_axes(array: Array) -> Array:
    """A view of q, k or v with the axes (batch, heads, length, depth)."""
    if array.ndim == 3:  # the usual case
        return array[None]
    if array.ndim == 4:
        return array
    if array.ndim < 4:
        return array[(None,) * (4 - array.ndim)]
    return array.reshape(-1, *array.shape[-3:])


def mask_with_four_axes(mask: Array, q: Array, k: Array) -> Array:
    """A mask with the axes (batch or 1, heads or 1, length, keys)."""
    if q.ndim > 4:
        size = sizes(q.shape, k.shape, k.shape)
        return np.broadcast_to(mask, size.scores).reshape(-1, *size.scores[-3:])
    mask = mask[(None,) * (4 - mask.ndim)]
    shape = (*mask.shape[:2], q.shape[-2], k.shape[-2])
    return mask if mask.shape == shape else np.ascontiguousarray(np.broadcast_to(mask, shape))
