"""GELU cut into items: flat rows of one length, so that a kernel of one fixed size serves any shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from assay import Arrays, Params
from numpy.typing import NDArray

ROW = (2048,)
"""The row of a kernel that does not choose one."""


class Rows:
    """The elements of one request in C order, in rows; the last row is filled up with zeros."""

    def __init__(self, x: NDArray[Any], shape: tuple[int, ...], out: NDArray[Any] | None) -> None:
        self._x = x
        self._y = np.empty(x.shape, x.dtype) if out is None else out
        self._length = math.prod(shape)
        self.shapes = (shape,)
        self.result_shape = shape

    @property
    def count(self) -> int:
        """How many rows there are; 0 for an empty array."""
        return -(-self._x.size // self._length)

    def load(self, start: int, stop: int, blocks: Sequence[NDArray[Any]]) -> None:
        """Write rows start to stop into the one block."""
        row = blocks[0].reshape(-1)
        piece = self._x.reshape(-1)[start * self._length : stop * self._length]
        row[: piece.size] = piece
        row[piece.size :] = 0

    def store(self, start: int, stop: int, block: NDArray[Any]) -> None:
        """Take the results of rows start to stop."""
        piece = self._y.reshape(-1)[start * self._length : stop * self._length]
        piece[:] = block.reshape(-1)[: piece.size]

    def result(self) -> NDArray[Any]:
        """The answer, in the shape of the request."""
        return self._y


def split(
    inputs: Arrays, params: Params, *, item_shape: tuple[int, ...] | None, out: NDArray[Any] | None
) -> Rows:
    """Cut a request into rows of the kernel's item shape (2,048 elements if it names none)."""
    x = inputs[0]
    assert x is not None
    return Rows(x, item_shape or ROW, out)
