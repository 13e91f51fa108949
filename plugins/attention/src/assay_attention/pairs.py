"""Attention cut into items: one head of one sequence each, with its mask, padded to the kernel's tile."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from assay import Arrays, InvalidInput, Params
from numpy.typing import NDArray

from assay_attention.masks import causal_mask
from assay_attention.sizes import Inputs, Sizes, sizes


class Pairs:
    """The pairs of a sequence and a head in one request.

    The blocks are q (n, L, D), k (n, K, D), v (n, K, E) and an additive mask (n, L, K), the causal rule in
    it. Key heads are repeated. What a tile has beyond the request is zeros, and minus infinity in the mask,
    so that no padded key takes part.
    """

    def __init__(
        self, inputs: Inputs, params: Params, size: Sizes, tile: tuple[int, ...], out: NDArray[Any] | None
    ) -> None:
        self._inputs = inputs
        self._params = params
        self._size = size
        self._heads = (*size.leading, size.heads)
        queries, keys, depth, value_depth = tile
        self.shapes = ((queries, depth), (keys, depth), (keys, value_depth), (queries, keys))
        self.result_shape = (queries, value_depth)
        # Over the whole tile, so that a kernel may apply the causal rule again, to padded queries as well.
        self._seen = np.zeros((queries, keys), inputs[0].dtype)
        if params["causal"]:
            self._seen[~causal_mask(queries, keys, params["causal_offset"])] = -np.inf
        self._seen[:, size.keys :] = -np.inf
        self._y = np.empty(size.result, inputs[0].dtype) if out is None else out

    @property
    def count(self) -> int:
        """How many pairs there are to compute; none where no key or no element of the answer is."""
        return math.prod(self._heads) if self._size.keys and self._y.size else 0

    def load(self, start: int, stop: int, blocks: Sequence[NDArray[Any]]) -> None:
        """Write pairs start to stop into the four blocks."""
        size, (q, k, v, mask) = self._size, self._inputs
        q = q.reshape(-1, size.length, size.depth)
        k = k.reshape(-1, size.keys, size.depth)
        v = v.reshape(-1, size.keys, size.value_depth)
        if mask is not None:
            mask = np.broadcast_to(mask, size.scores)
        for slot, pair in enumerate(range(start, stop)):
            _place(q[pair], blocks[0][slot])
            _place(k[pair // size.group], blocks[1][slot])
            _place(v[pair // size.group], blocks[2][slot])
            blocks[3][slot] = self._seen
            if mask is not None:
                part = blocks[3][slot, : size.length, : size.keys]
                part += _additive(mask[np.unravel_index(pair, self._heads)], part.dtype)

    def store(self, start: int, stop: int, block: NDArray[Any]) -> None:
        """Take the results of pairs start to stop, without their padding."""
        size = self._size
        y = self._y.reshape(-1, size.length, size.value_depth)
        y[start:stop] = block[:, : size.length, : size.value_depth]

    def result(self) -> NDArray[Any]:
        """The answer, in the shape of the request; without keys it is zeros."""
        if not self._size.keys:
            self._y[...] = 0
        return self._y


def _additive(mask: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    return np.where(mask, dtype.type(0), dtype.type(-np.inf)) if mask.dtype == np.bool_ else mask


def _place(source: NDArray[Any], target: NDArray[Any]) -> None:
    rows, columns = source.shape
    target[:rows, :columns] = source
    target[rows:] = 0
    target[:rows, columns:] = 0


def split(
    inputs: Arrays, params: Params, *, item_shape: tuple[int, ...] | None, out: NDArray[Any] | None
) -> Pairs:
    """Cut a request into pairs of a sequence and a head.

    Args:
        item_shape: The kernel's tile (queries, keys, depth, value depth); None: the request's own sizes.

    Raises:
        InvalidInput: The request is larger than the tile.
    """
    q, k, v, _ = cast("Inputs", inputs)
    size = sizes(q.shape, k.shape, v.shape)
    own = (size.length, size.keys, size.depth, size.value_depth)
    tile = own if item_shape is None else item_shape
    if len(tile) != 4 or any(mine > most for mine, most in zip(own, tile, strict=True)):
        raise InvalidInput(
            f"attention: {size.length} queries, {size.keys} keys, depth {size.depth} and value depth "
            f"{size.value_depth} do not fit the kernel's tile {tile}; it is not cut, since every query must "
            "see every key"
        )
    return Pairs(cast("Inputs", inputs), params, size, tile, out)


def resolve(inputs: Arrays, params: Params) -> Params:
    """The parameters of an item kernel: ``scale`` as a number, from the depth before any padding."""
    if params["scale"] is not None:
        return params
    q, *_ = cast("Inputs", inputs)
    return {**params, "scale": 1 / math.sqrt(q.shape[-1])}
