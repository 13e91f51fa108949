"""Wrong kernels for attention, each of which the gate must reject, and right ones in odd styles."""

# ruff: noqa: B006, B008 -- what outlives a call, in defaults here, is what many of these kernels are about

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from assay.testing import Specimens

SPECIMENS = Specimens("attention")
wrong, right = SPECIMENS.wrong, SPECIMENS.right


def repeat(q: Any, k: Any) -> Any:
    """Key or value heads, each for its group of query heads."""
    return k if q.ndim == 2 or q.shape[-3] == k.shape[-3] else np.repeat(k, q.shape[-3] // k.shape[-3], -3)


def seen_by(length: int, keys: int, offset: int) -> Any:
    return np.tri(length, keys, offset, dtype=bool)


def scores(q, k, *, scale, softcap, depth=None) -> Any:
    factor = 1 / math.sqrt(depth or q.shape[-1]) if scale is None else scale
    score = q.astype(np.float64) @ np.swapaxes(repeat(q, k), -1, -2).astype(np.float64) * factor
    return softcap * np.tanh(score / softcap) if softcap else score


def masked(score, *, mask, causal, causal_offset) -> Any:
    if mask is not None:
        score = np.where(mask, score, -np.inf) if mask.dtype == bool else score + mask
    if causal:
        score = np.where(seen_by(*score.shape[-2:], causal_offset), score, -np.inf)
    return score


def softmax(score: Any) -> Any:
    if not score.shape[-1]:
        return score
    top = score.max(-1, keepdims=True)
    weight = np.exp(score - np.where(np.isneginf(top), 0, top))
    total = weight.sum(-1, keepdims=True)
    return weight / np.where(total == 0, 1, total)


def attention(q, k, v, *, mask, causal, causal_offset, scale, softcap) -> Any:
    """Attention done right: in float64, rounded once."""
    score = masked(
        scores(q, k, scale=scale, softcap=softcap), mask=mask, causal=causal, causal_offset=causal_offset
    )
    return (softmax(score) @ repeat(q, v).astype(np.float64)).astype(q.dtype)


# --- wrong: the mathematics


@wrong()
def zeros(q, k, v, **params):
    return np.zeros_like(attention(q, k, v, **params))


@wrong()
def mean_of_the_values(q, k, v, **params):
    return attention(q * 0, k, v, **params)


@wrong()
def block_diagonal(q, k, v, *, causal, causal_offset, mask, **params):
    tile = np.arange(max(q.shape[-2], k.shape[-2])) // 64
    inside = tile[: q.shape[-2], None] == tile[None, : k.shape[-2]]
    score = masked(scores(q, k, **params), mask=mask, causal=causal, causal_offset=causal_offset)
    weight = softmax(np.where(inside, score, -np.inf))
    return (weight @ repeat(q, v).astype(np.float64)).astype(q.dtype)


@wrong()
def mask_after_softmax(q, k, v, *, mask, causal, causal_offset, **params):
    weight = softmax(scores(q, k, **params))
    if mask is not None:
        weight = weight * (mask if mask.dtype == bool else np.exp(mask))
    if causal:
        weight = weight * seen_by(*weight.shape[-2:], causal_offset)
    return (weight @ repeat(q, v).astype(np.float64)).astype(q.dtype)


@wrong()
def unscaled(q, k, v, *, scale, **params):
    return attention(q, k, v, scale=1.0 if scale is None else scale, **params)


@wrong()
def scaled_by_depth(q, k, v, *, scale, **params):
    return attention(q, k, v, scale=1 / q.shape[-1] if scale is None else scale, **params)


@wrong()
def always_its_own_scale(q, k, v, *, scale, **params):
    return attention(q, k, v, scale=None, **params)


@wrong()
def scale_of_the_padded_depth(q, k, v, *, scale, **params):
    padded = -(-q.shape[-1] // 16) * 16
    return attention(q, k, v, scale=1 / math.sqrt(padded) if scale is None else scale, **params)


@wrong()
def not_causal(q, k, v, *, causal, **params):
    return attention(q, k, v, causal=False, **params)


@wrong()
def causal_bottom_right(q, k, v, *, causal_offset, **params):
    return attention(q, k, v, causal_offset=causal_offset + k.shape[-2] - q.shape[-2], **params)


@wrong()
def no_causal_offset(q, k, v, *, causal_offset, **params):
    return attention(q, k, v, causal_offset=0, **params)


@wrong()
def does_not_see_itself(q, k, v, *, causal_offset, **params):
    return attention(q, k, v, causal_offset=causal_offset - 1, **params)


@wrong()
def no_softcap(q, k, v, *, softcap, **params):
    return attention(q, k, v, softcap=0.0, **params)


@wrong()
def softcap_after_mask(q, k, v, *, mask, causal, causal_offset, scale, softcap):
    score = scores(q, k, scale=scale, softcap=0.0)
    if mask is not None and mask.dtype != bool:
        score, mask = score + np.maximum(mask, -1e9), None
    if softcap:
        score = softcap * np.tanh(score / softcap)
    score = masked(score, mask=mask, causal=causal, causal_offset=causal_offset)
    return (softmax(score) @ repeat(q, v).astype(np.float64)).astype(q.dtype)


@wrong()
def heads_in_the_wrong_order(q, k, v, **params):
    if q.ndim > 2 and q.shape[-3] != k.shape[-3]:
        turns = [1] * q.ndim
        turns[-3] = q.shape[-3] // k.shape[-3]
        k, v = np.tile(k, turns), np.tile(v, turns)
    return attention(q, k, v, **params)


@wrong()
def only_the_first_head(q, k, v, **params):
    y = attention(q, k, v, **params)
    if y.ndim > 2:
        y[...] = y[..., :1, :, :]
    return y


@wrong()
def hidden_rows_are_means(q, k, v, *, mask, causal, causal_offset, **params):
    score = masked(scores(q, k, **params), mask=mask, causal=causal, causal_offset=causal_offset)
    weight = softmax(np.maximum(score, -1e30))
    return (weight @ repeat(q, v).astype(np.float64)).astype(q.dtype)


@wrong()
def hidden_rows_are_nan(q, k, v, *, mask, causal, causal_offset, **params):
    score = masked(scores(q, k, **params), mask=mask, causal=causal, causal_offset=causal_offset)
    if not score.shape[-1]:
        return attention(q, k, v, mask=mask, causal=causal, causal_offset=causal_offset, **params)
    with np.errstate(invalid="ignore"):
        weight = np.exp(score - score.max(-1, keepdims=True))
        weight /= weight.sum(-1, keepdims=True)
    return (weight @ repeat(q, v).astype(np.float64)).astype(q.dtype)


@wrong()
def no_maximum_subtracted(q, k, v, *, mask, causal, causal_offset, **params):
    score = masked(scores(q, k, **params), mask=mask, causal=causal, causal_offset=causal_offset)
    with np.errstate(over="ignore", invalid="ignore"):
        weight = np.exp(score.astype(np.float32))
        total = weight.sum(-1, keepdims=True)
        weight = weight / np.where(total == 0, np.float32(1), total)
    return (weight @ repeat(q, v)).astype(q.dtype)


@wrong()
def mask_turned_round(q, k, v, *, mask, **params):
    turned = ~mask if mask is not None and mask.dtype == bool else mask
    return attention(q, k, v, mask=turned, **params)


@wrong()
def additive_masks_ignored(q, k, v, *, mask, **params):
    return attention(q, k, v, mask=mask if mask is None or mask.dtype == bool else None, **params)


@wrong()
def mask_of_the_first_head(q, k, v, *, mask, **params):
    if mask is not None and mask.ndim > 2:
        mask = np.broadcast_to(mask[..., :1, :, :], mask.shape)
    return attention(q, k, v, mask=mask, **params)


@wrong()
def half_inside(q, k, v, **params):
    with np.errstate(over="ignore", invalid="ignore"):
        return attention(*(x.astype(np.float16) for x in (q, k, v)), **params).astype(q.dtype)


@wrong()
def half_weights(q, k, v, *, mask, causal, causal_offset, **params):
    score = masked(scores(q, k, **params), mask=mask, causal=causal, causal_offset=causal_offset)
    weight = softmax(score).astype(np.float16).astype(np.float64)
    return (weight @ repeat(q, v).astype(np.float64)).astype(q.dtype)


@wrong(accuracy="approximate")
def int4_values(q, k, v, **params):
    scale = np.abs(v).max(initial=0) / 7 or 1
    return attention(q, k, np.round(v / scale) * np.float32(scale), **params).astype(q.dtype)


# --- wrong: the domain


@wrong()
def sees_1024_keys(q, k, v, *, mask, **params):
    if mask is not None:
        mask = np.broadcast_to(mask, (*mask.shape[:-1], k.shape[-2]))[..., :1024]
    return attention(q, k[..., :1024, :], v[..., :1024, :], mask=mask, **params)


@wrong()
def last_key_of_odd_lengths(q, k, v, *, mask, causal, causal_offset, **params):
    score = masked(scores(q, k, **params), mask=mask, causal=causal, causal_offset=causal_offset)
    if score.shape[-1] % 2:
        score[..., -1] = -np.inf
    return (softmax(score) @ repeat(q, v).astype(np.float64)).astype(q.dtype)


@wrong()
def queries_in_whole_tiles(q, k, v, **params):
    y = attention(q, k, v, **params)
    y[..., y.shape[-2] // 16 * 16 :, :] = 0
    return y


@wrong()
def depth_in_whole_vectors(q, k, v, **params):
    depth = max(1, q.shape[-1] // 8 * 8)
    scale = params.pop("scale")
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    return attention(q[..., :depth], k[..., :depth], v, scale=scale, **params)


@wrong()
def values_as_deep_as_keys(q, k, v, **params):
    y = attention(q, k, v, **params)
    y[..., q.shape[-1] :] = 0
    return y


@wrong()
def nan_without_keys(q, k, v, **params):
    y = attention(q, k, v, **params)
    return y if k.shape[-2] else np.full_like(y, np.nan)


@wrong()
def wrong_beyond_a_thousand_queries(q, k, v, **params):
    y = attention(q, k, v, **params)
    y[..., 1024:, :] = 0
    return y


@wrong(dtypes={"float32", "float64"})
def single_for_double(q, k, v, *, mask, **params):
    if mask is not None and mask.dtype != bool:
        mask = mask.astype(np.float32)
    narrow = [x.astype(np.float32) for x in (q, k, v)]
    return attention(*narrow, mask=mask, **params).astype(q.dtype) + q.dtype.type(1e-5)


# --- wrong: state and manners


@wrong()
def stale_scores(q, k, v, *, _kept={}, **params):
    key = (q.shape, k.shape, v.shape, str(params["causal"]), params["mask"] is None)
    if key not in _kept:
        _kept[key] = attention(q, k, v, **params)
    return _kept[key].copy()


@wrong()
def scales_its_queries(q, k, v, *, scale, **params):
    q *= q.dtype.type(1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    return attention(q, k, v, scale=1.0, **params)


@wrong()
def noisy(q, k, v, *, _rng=np.random.default_rng(), **params):
    y = attention(q, k, v, **params)
    return (y + 1e-2 * _rng.standard_normal(y.shape)).astype(y.dtype)


@wrong()
def key_cache(q, k, v, *, _cache={}, **params):
    """Keys that are seen again by their first row are taken from the cache."""
    key = (k.shape, k.tobytes()[:16])
    k = _cache.setdefault(key, k.copy())
    return attention(q, k, v, **params)


@wrong()
def shared_scratch(q, k, v, *, _kept={}, **params):
    q2 = _kept.setdefault(q.shape, np.empty_like(q))
    q2[...] = q
    return attention(q2, k, v, **params) if len(q) else attention(q, k, v, **params)


# --- wrong: items


@wrong(form="items", batch_sizes=(1, 4))
def swapped_slots(q, k, v, mask, *, scale, softcap, **rest):
    y = _pairs(q, k, v, mask, scale, softcap)
    return y[::-1]


@wrong(form="items", batch_sizes=(1, 4), item_shape=(256, 256, 128, 128))
def padding_takes_part(q, k, v, mask, *, scale, softcap, **rest):
    return _pairs(q, k, v, np.where(np.isneginf(mask), np.float32(-1), mask), scale, softcap)


@wrong(form="items", batch_sizes=(8,))
def mask_of_the_first_slot(q, k, v, mask, *, scale, softcap, **rest):
    return _pairs(q, k, v, mask[:1], scale, softcap)


@wrong(form="items", batch_sizes=(8,))
def last_slot_repeated(q, k, v, mask, *, scale, softcap, **rest):
    y = _pairs(q, k, v, mask, scale, softcap)
    y[7] = y[6]
    return y


def _pairs(q, k, v, mask, scale, softcap):
    rest = {"causal": False, "causal_offset": 0}
    return attention(q, k, v, mask=mask, scale=scale, softcap=softcap, **rest)


# --- right, in odd styles


@right()
def plain(q, k, v, **params):
    return attention(q, k, v, **params)


@right()
def fortran_order(q, k, v, **params):
    return np.asfortranarray(attention(q, k, v, **params))


@right()
def heads_last(q, k, v, **params):
    """As libraries do that keep (length, heads, depth)."""
    y = attention(q, k, v, **params)
    return np.ascontiguousarray(np.swapaxes(y, 0, -2)).swapaxes(0, -2)


@right(writes_out=True, dtypes={"float32", "float64", "float16"})
def into_out(q, k, v, *, out, **params):
    out[...] = attention(q, k, v, **params)
    return out


@right()
def head_by_head(q, k, v, *, mask, _pool=ThreadPoolExecutor(2), **params):
    if q.ndim == 2:
        return attention(q, k, v, mask=mask, **params)
    k, v = repeat(q, k), repeat(q, v)
    full = None if mask is None else np.broadcast_to(mask, (*q.shape[:-1], k.shape[-2]))
    y = np.empty((*q.shape[:-1], v.shape[-1]), q.dtype)

    def one(index):
        own = None if full is None else full[index]
        y[index] = attention(q[index], k[index], v[index], mask=own, **params)

    list(_pool.map(one, np.ndindex(q.shape[:-2])))
    return y


@right(params={"causal": {False}, "softcap": {0.0}})
def plain_softmax_only(q, k, v, **params):
    assert not params["causal"]
    return attention(q, k, v, **params)


@right(shapes=lambda q, k, v: (0 not in (*q, *k, *v) and q[-2] <= 512) or "up to 512 queries, none empty")
def up_to_512_queries(q, k, v, **params):
    assert 0 < q.shape[-2] <= 512
    return attention(q, k, v, **params)


@right(accuracy="approximate")
def half_weights_and_says_so(q, k, v, *, mask, causal, causal_offset, **params):
    score = masked(scores(q, k, **params), mask=mask, causal=causal, causal_offset=causal_offset)
    weight = softmax(score).astype(np.float16).astype(np.float64)
    return (weight @ repeat(q, v).astype(np.float64)).astype(q.dtype)


@right(strided=True)
def any_strides(q, k, v, **params):
    return attention(q, k, v, **params)


@right(form="items", batch_sizes=(1, 4))
def items_without_out(q, k, v, mask, *, scale, softcap, causal, causal_offset):
    return _pairs(q, k, v, mask, scale, softcap)


@right(form="items", batch_sizes=(8,), item_shape=(256, 1200, 128, 128), writes_out=True)
def items_in_tiles(q, k, v, mask, *, out, scale, softcap, **rest):
    out[...] = _pairs(q, k, v, mask, scale, softcap)
    return out
