"""Kernels that are wrong in ways that happen: each is rejected, and the probe that caught it is named."""

from __future__ import annotations

import math

import assay
import numpy as np
import pytest


def scores(q, k, scale):
    return q @ k.swapaxes(-1, -2) * np.float32(1 / math.sqrt(q.shape[-1]) if scale is None else scale)


def cap(score, softcap):
    return np.float32(softcap) * np.tanh(score / np.float32(softcap)) if softcap else score


def hide(score, mask, causal, offset):
    if mask is not None:
        score = np.where(mask, score, -np.inf) if mask.dtype == bool else score + mask
    if causal:
        score = np.where(np.tri(*score.shape[-2:], offset, dtype=bool), score, -np.inf)
    return score


def softmax(score):
    if not score.shape[-1]:
        return score
    weight = np.exp(score - np.maximum(score.max(axis=-1, keepdims=True), np.finfo(score.dtype).min))
    return weight / np.maximum(weight.sum(axis=-1, keepdims=True), np.finfo(score.dtype).tiny)


def repeat(q, k, v):
    """Key and value heads in the number of the query's."""
    group = q.shape[-3] // k.shape[-3] if q.ndim > 2 else 1
    return q, *(np.repeat(x, group, axis=-3) if group > 1 else x for x in (k, v))


def right(q, k, v, *, mask, causal, causal_offset, scale, softcap):
    q, k, v = repeat(q, k, v)
    return softmax(hide(cap(scores(q, k, scale), softcap), mask, causal, causal_offset)) @ v


def mask_after_softmax(q, k, v, *, mask, causal, causal_offset, scale, softcap):
    """The mask is multiplied in once the weights are normalised."""
    q, k, v = repeat(q, k, v)
    weight = softmax(cap(scores(q, k, scale), softcap))
    seen = np.isfinite(hide(np.zeros_like(weight), mask, causal, causal_offset))
    return (weight * seen).astype(q.dtype) @ v


def scaled_by_depth(q, k, v, *, scale, **rest):
    """By the depth, not its root."""
    return right(q, k, v, scale=1 / q.shape[-1] if scale is None else scale, **rest)


def not_scaled(q, k, v, *, scale, **rest):
    return right(q, k, v, scale=1.0, **rest)


def swapped_heads(q, k, v, **rest):
    result = right(q, k, v, **rest)
    return np.ascontiguousarray(result[..., ::-1, :, :]) if q.ndim > 2 else result


def batch_slot_repeated(q, k, v, **rest):
    """The first head's answer for all."""
    result = right(q, k, v, **rest)
    if q.ndim > 2 and result.size:
        result[..., 1:, :, :] = result[..., :1, :, :]
    return result


def block_diagonal(q, k, v, *, mask, causal, causal_offset, scale, softcap):
    """Cut into tiles of 64 that never see each other."""
    q, k, v = repeat(q, k, v)
    score = hide(cap(scores(q, k, scale), softcap), mask, causal, causal_offset)
    query, key = (np.arange(n) // 64 for n in score.shape[-2:])
    return softmax(np.where(query[:, None] == key, score, -np.inf).astype(q.dtype)) @ v


def large_tiles(q, k, v, *, mask, causal, causal_offset, scale, softcap):
    """Sees the first 1,024 keys only."""
    q, k, v = repeat(q, k, v)
    score = hide(cap(scores(q, k, scale), softcap), mask, causal, causal_offset)
    return softmax(score[..., :1024]) @ v[..., :1024, :]


def causal_bottom_right(q, k, v, *, causal_offset, **rest):
    """The last query sees the last key."""
    return right(q, k, v, causal_offset=causal_offset + k.shape[-2] - q.shape[-2], **rest)


def causal_without_offset(q, k, v, *, causal_offset, **rest):
    return right(q, k, v, causal_offset=0, **rest)


def causal_excludes_itself(q, k, v, *, causal_offset, **rest):
    return right(q, k, v, causal_offset=causal_offset - 1, **rest)


def groups_interleaved(q, k, v, **rest):
    """Head h uses key head h modulo their number."""
    if q.ndim > 2:
        k, v = (np.concatenate([x] * (q.shape[-3] // x.shape[-3]), axis=-3) for x in (k, v))
    return right(q, k, v, **rest)


def no_softcap(q, k, v, *, softcap, **rest):
    return right(q, k, v, softcap=0.0, **rest)


def softcap_after_mask(q, k, v, *, mask, causal, causal_offset, scale, softcap):
    q, k, v = repeat(q, k, v)
    score = hide(scores(q, k, scale), mask, False, 0)
    return softmax(hide(cap(score, softcap), None, causal, causal_offset)) @ v


def mask_scaled(q, k, v, *, mask, causal, causal_offset, scale, softcap):
    """The additive mask is scaled with the scores."""
    factor = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    if mask is not None and mask.dtype != bool:
        mask = mask * np.float32(factor)
    return right(q, k, v, mask=mask, causal=causal, causal_offset=causal_offset, scale=scale, softcap=softcap)


def mask_inverted(q, k, v, *, mask, **rest):
    """True means hidden."""
    return right(q, k, v, mask=~mask if mask is not None and mask.dtype == bool else mask, **rest)


def mask_of_first_head(q, k, v, *, mask, **rest):
    if mask is not None and mask.ndim > 2:
        mask = mask[..., :1, :, :]
    return right(q, k, v, mask=mask, **rest)


def keys_in_sixteens(q, k, v, *, mask, **rest):
    """Keys beyond a multiple of 16 count as zeros instead of not at all."""
    score = scores(*repeat(q, k, v)[:2], 1.0)
    missing = -score.shape[-1] % 16
    if mask is not None or rest["causal"] or rest["softcap"] or not missing:
        return right(q, k, v, mask=mask, **rest)
    pad = [(0, 0)] * (k.ndim - 2) + [(0, missing), (0, 0)]
    return right(q, np.pad(k, pad), np.pad(v, pad), mask=None, **rest)


def no_shift(q, k, v, *, mask, causal, causal_offset, scale, softcap):
    """exp without the row's maximum taken off: overflows."""
    q, k, v = repeat(q, k, v)
    with np.errstate(over="ignore", invalid="ignore"):
        weight = np.exp(hide(cap(scores(q, k, scale), softcap), mask, causal, causal_offset))
        total = weight.sum(axis=-1, keepdims=True)
        return (weight / np.maximum(total, np.finfo(q.dtype).tiny)) @ v


def uniform_where_nothing_is_seen(q, k, v, *, mask, causal, causal_offset, scale, softcap):
    """Minus infinity as a large finite number: rows that see nothing get the average."""
    q, k, v = repeat(q, k, v)
    score = hide(cap(scores(q, k, scale), softcap), mask, causal, causal_offset)
    return softmax(np.maximum(score, np.float32(-1e30)).astype(q.dtype)) @ v


def half_precision(q, k, v, *, mask, causal, causal_offset, scale, softcap):
    q, k, v = repeat(q, k, v)
    weight = softmax(hide(cap(scores(q, k, scale), softcap), mask, causal, causal_offset))
    return weight.astype(np.float16).astype(np.float32) @ v


def fast_exp(q, k, v, *, mask, causal, causal_offset, scale, softcap):
    """Weights within 6 % each, as from the bits of a float."""
    q, k, v = repeat(q, k, v)
    score = hide(cap(scores(q, k, scale), softcap), mask, causal, causal_offset)
    if not score.shape[-1]:
        return score @ v
    power = np.maximum(score - np.maximum(score.max(axis=-1, keepdims=True), -1e30), -80) / math.log(2)
    weight = np.where(np.isneginf(score), 0, 2 ** np.floor(power) * (1 + power - np.floor(power)))
    return (weight / np.maximum(weight.sum(axis=-1, keepdims=True), 1e-30)).astype(np.float32) @ v


def zeros(q, k, v, **rest):
    return np.zeros_like(right(q, k, v, **rest))


WRONG = [
    mask_after_softmax,
    scaled_by_depth,
    not_scaled,
    swapped_heads,
    batch_slot_repeated,
    block_diagonal,
    large_tiles,
    causal_bottom_right,
    causal_without_offset,
    causal_excludes_itself,
    groups_interleaved,
    no_softcap,
    softcap_after_mask,
    mask_scaled,
    mask_inverted,
    mask_of_first_head,
    keys_in_sixteens,
    no_shift,
    uniform_where_nothing_is_seen,
    half_precision,
    fast_exp,
    zeros,
]


@pytest.mark.parametrize("kernel", WRONG, ids=lambda kernel: kernel.__name__)
def test_wrong_kernel_is_rejected(offer, kernel):
    """The reason says which probe caught it."""
    candidate = offer(kernel).explain("attention")["offered"]

    assert candidate.verdict is assay.Verdict.REJECTED
    assert [reason.code for reason in candidate.reasons] == [assay.ReasonCode.INACCURATE]
    assert "probe '" in candidate.reasons[0].message


@pytest.mark.parametrize("dtypes", [{"float32"}, {"float32", "float64"}])
def test_right_kernel_is_admitted(offer, dtypes):
    """The plain formula passes: the gate is not merely closed."""
    candidate = offer(right, dtypes=dtypes).explain("attention")["offered"]

    assert candidate.verdict is assay.Verdict.CHOSEN, str(candidate.reasons)


@pytest.mark.parametrize(
    ("kernel", "params"),
    [
        (no_softcap, {"softcap": {0.0}}),
        (no_softcap, {"softcap": {0.0}, "causal": {True}}),
        (causal_without_offset, {"causal_offset": {0}}),
        (causal_bottom_right, {"causal": {False}}),
        (right, {"softcap": {0.0, 50.0}, "scale": {0.125, 1.0}}),
    ],
)
def test_kernel_is_admitted_where_it_is_right(offer, kernel, params):
    """A declared domain leaves out what the kernel does not do, and is probed throughout."""
    candidate = offer(kernel, params=params).explain("attention")["offered"]

    assert candidate.verdict is assay.Verdict.CHOSEN, str(candidate.reasons)
