"""The sizes in a request for attention, read from its shapes and checked against each other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from assay import InvalidInput
from numpy.typing import NDArray

Shape = tuple[int, ...]
Inputs = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any] | None]
"""q, k, v and the mask of a request that has been checked."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the shapes of q, k and v say. Without a head axis there is one head of each kind."""

    leading: Shape
    heads: int
    key_heads: int
    length: int
    keys: int
    depth: int
    value_depth: int
    result: Shape

    @property
    def batch(self) -> int:
        """The leading axes taken as one."""
        return math.prod(self.leading)

    @property
    def group(self) -> int:
        """The query heads that share a key head."""
        return self.heads // max(self.key_heads, 1)

    @property
    def scores(self) -> Shape:
        """What a mask broadcasts to, the head axis included."""
        return (*self.leading, self.heads, self.length, self.keys)


def sizes(q: Shape, k: Shape, v: Shape) -> Sizes:
    """Check three shapes against each other.

    Raises:
        InvalidInput: They do not belong together.
    """
    what = f"attention: q has shape {q}, k {k}, v {v}"
    if not len(q) == len(k) == len(v) or len(q) < 2:
        raise InvalidInput(
            f"{what}; expected (..., heads, length, depth) for all three, or (length, depth) for all three"
        )
    if not q[:-3] == k[:-3] == v[:-3]:
        raise InvalidInput(f"{what}; expected the same axes before (heads, length, depth) in all three")
    if k[:-1] != v[:-1]:
        raise InvalidInput(f"{what}; expected k and v to agree in everything but their depth")
    if q[-1] != k[-1] or q[-1] < 1:
        raise InvalidInput(f"{what}; expected q and k to have the same depth, at least 1")
    heads, key_heads = (q[-3], k[-3]) if len(q) > 2 else (1, 1)
    if heads and (not key_heads or heads % key_heads):
        raise InvalidInput(
            f"{what}; expected the {heads} heads of q to be a multiple of the {key_heads} heads of k and v"
        )
    return Sizes(
        leading=q[:-3],
        heads=heads,
        key_heads=key_heads,
        length=q[-2],
        keys=k[-2],
        depth=q[-1],
        value_depth=v[-1],
        result=(*q[:-1], v[-1]),
    )
