"""Attention in plain NumPy: blocks of scores that stay in the cache, both products by BLAS."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay_attention.sizes import Sizes, sizes

BLOCK = 1 << 18
"""Scores per block, 1 MB in float32: some hundred queries, which the products need to be fast, and still in
the cache when the next step comes by."""

UNSHIFTED = 30.0
"""Scores up to this size need no shift before exp: weights stay within e^-30..e^30, far inside float32."""


@np.errstate(over="ignore", invalid="ignore")  # what is not finite spreads, and that is all
def attention(
    q: NDArray[Any],
    k: NDArray[Any],
    v: NDArray[Any],
    *,
    mask: NDArray[Any] | None,
    causal: bool,
    causal_offset: int,
    scale: float | None,
    softcap: float,
    out: NDArray[Any],
) -> NDArray[Any]:
    """Attention in the dtype of its inputs, float32 or float64.

    A block is some queries of one sequence and key head against every key they can see, or, where sequences
    are short, all queries of several. A block sees all of its keys at once, so its softmax is final. The
    products run on as many threads as NumPy's BLAS is set to (OPENBLAS_NUM_THREADS), everything else on one.
    """
    size = sizes(q.shape, k.shape, v.shape)
    if not out.size or not size.keys:
        out[...] = 0
        return out
    # Sequences and key heads are one axis, so that the products broadcast a key head over its group.
    pairs = size.batch * size.key_heads
    factor = 1 / math.sqrt(size.depth) if scale is None else float(scale)
    query = q * (factor / float(softcap) if softcap else factor)
    query = query.reshape(pairs, size.group, size.length, size.depth)
    key = k.reshape(pairs, 1, size.keys, size.depth)
    value = v.reshape(pairs, 1, size.keys, size.value_depth)
    result = out.reshape(pairs, size.group, size.length, size.value_depth)
    bias = None if mask is None else _by_pair(mask, size)
    shift = _can_exceed(UNSHIFTED, query, key, softcap) or (mask is not None and mask.dtype != np.bool_)

    rows = min(size.length, max(1, BLOCK // (size.group * size.keys)))
    together = min(pairs, max(1, BLOCK // (size.group * size.keys * size.length)))
    scratch = np.empty(together * size.group * rows * size.keys, q.dtype)
    ones = np.ones(size.keys, q.dtype)
    for start in range(0, size.length, rows):
        stop = min(start + rows, size.length)
        keys = min(size.keys, max(0, stop + causal_offset)) if causal else size.keys
        for first in range(0, pairs, together):
            last = min(first + together, pairs)
            target = result[first:last, :, start:stop]
            if not keys:
                target[...] = 0
                continue
            shape = (*target.shape[:3], keys)
            score = scratch[: math.prod(shape)].reshape(shape)
            np.matmul(query[first:last, :, start:stop], key[first:last, :, :keys].swapaxes(-1, -2), out=score)
            if softcap:
                np.tanh(score, out=score)
                score *= float(softcap)
            if bias is not None:
                index = np.unravel_index(np.arange(first, last), bias.shape[:-3])
                _add(score, bias[..., start:stop, :keys][index])
            if causal:
                _hide_later(score, start + causal_offset)
            if shift:
                # Not below the lowest finite number: minus infinity less itself would be NaN.
                score -= np.maximum(score.max(axis=-1, keepdims=True), np.finfo(score.dtype).min)
            np.exp(score, out=score)
            np.matmul(score, value[first:last, :, :keys], out=target)
            total = score @ ones[:keys]  # BLAS is faster than a sum along the last axis
            target /= np.maximum(total, np.finfo(total.dtype).tiny)[..., None]  # no key in sight: 0 / tiny
    return out


def _by_pair(mask: NDArray[Any], size: Sizes) -> NDArray[Any]:
    """A view (leading axes, key heads, group, length, keys) of a mask, which may be smaller than it looks."""
    shape = (*size.leading, size.key_heads, size.group, size.length, size.keys)
    return np.broadcast_to(mask, size.scores).reshape(shape)


def _can_exceed(limit: float, query: NDArray[Any], key: NDArray[Any], softcap: float) -> bool:
    """Whether a score could be larger, by the lengths of the vectors (or by the cap)."""
    if softcap:
        return softcap > limit
    longest = [math.sqrt(np.einsum("phnd,phnd->phn", x, x).max()) for x in (query, key)]
    return not longest[0] * longest[1] <= limit  # so that NaN can


def _add(score: NDArray[Any], bias: NDArray[Any]) -> None:
    if bias.dtype == np.bool_:
        np.copyto(score, -np.inf, where=~bias)
    else:
        score += bias


def _hide_later(score: NDArray[Any], diagonal: int) -> None:
    """Hide from the query in row i every key after i + diagonal."""
    first = max(0, diagonal + 1)  # every row sees what is before
    later = score[..., first:]
    rows, keys = later.shape[-2:]
    np.copyto(later, -np.inf, where=~np.tri(rows, keys, diagonal - first, dtype=np.bool_))
