"""Attention in float64, from its definition: what every implementation is compared with."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROWS = 256
"""Queries per block: the scores of one block against some thousand keys are a few megabytes."""


@np.errstate(over="ignore", invalid="ignore")  # what is not finite spreads, and that is all
def reference(
    q: NDArray[Any],
    k: NDArray[Any],
    v: NDArray[Any],
    mask: NDArray[Any] | None = None,
    *,
    causal: bool = False,
    causal_offset: int = 0,
    scale: float | None = None,
    softcap: float = 0.0,
) -> NDArray[np.float64]:
    """softmax(cap(q k^T scale) + mask) v for each head, in float64 (Vaswani et al., arXiv:1706.03762).

    Args:
        q: (..., heads, length, depth) or (length, depth), any real dtype.
        k: (..., key heads, keys, depth); head h of q uses key head h // (heads / key heads).
        v: (..., key heads, keys, value depth).
        mask: Broadcasts to (..., heads, length, keys): True where a key takes part, or added to the scores.
        causal: Query i sees keys 0 to i + ``causal_offset`` only.
        causal_offset: See ``causal``; any whole number.
        scale: Factor of the scores; None: 1 / sqrt(depth).
        softcap: c > 0 replaces a score s by c tanh(s / c) before the mask; 0: scores stay.

    Returns:
        (..., heads, length, value depth). A query that sees no key gives zeros.
    """
    if q.ndim == 2:
        q, k, v = q[None], k[None], v[None]
        flat = True
    else:
        flat = False
    length, keys = q.shape[-2], k.shape[-2]
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    if mask is not None:
        mask = np.broadcast_to(mask, (*q.shape[:-1], keys))
    result = np.zeros((*q.shape[:-1], v.shape[-1]))
    if not keys:
        return result[0] if flat else result
    for *leading, head in np.ndindex(q.shape[:-2]):
        shared = (*leading, head * k.shape[-3] // q.shape[-3])
        own = (*leading, head)
        key, value = k[shared].astype(np.float64), v[shared].astype(np.float64)
        for start in range(0, length, ROWS):
            rows = slice(start, start + ROWS)
            score = q[own][rows].astype(np.float64) @ key.T * scale
            if softcap:
                score = softcap * np.tanh(score / softcap)
            if mask is not None:
                seen = mask[own][rows]
                score = np.where(seen, score, -np.inf) if seen.dtype == bool else score + seen
            if causal:
                query = np.arange(start, start + len(score))
                score[np.arange(keys) > query[:, None] + causal_offset] = -np.inf
            highest = score.max(axis=-1, keepdims=True)
            weight = np.exp(score - np.where(np.isneginf(highest), 0.0, highest))
            total = weight.sum(axis=-1, keepdims=True)
            result[own][rows] = weight @ value / np.where(total == 0, 1.0, total)
    return result[0] if flat else result
