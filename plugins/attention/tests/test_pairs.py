"""A kernel of one fixed tile serves what fits it, and nothing else."""

from __future__ import annotations

import assay
import numpy as np
import pytest
from assay_attention.reference import reference

TILE = (64, 48, 32, 40)
"""Queries, keys, depth, value depth."""

REQUESTS = [(1, 1, 1, 1, 1, 1), (6, 3, 64, 48, 32, 40), (3, 1, 9, 7, 20, 11)]
"""Heads, heads per key head, then as above."""


def tile_kernel(q, k, v, mask, *, causal, causal_offset, scale, softcap, out):
    """A single-tile kernel in float64; it never applies the causal rule, which is in the mask already."""
    assert (q.shape[1:], k.shape[1:], v.shape[1:], mask.shape[1:]) == ((64, 32), (48, 32), (48, 40), (64, 48))
    score = np.matmul(q, k.swapaxes(1, 2), dtype=np.float64) * scale
    if softcap:
        score = softcap * np.tanh(score / softcap)
    score += mask
    weight = np.exp(score - np.maximum(score.max(axis=-1, keepdims=True), -1e300))
    out[...] = weight @ v / np.maximum(weight.sum(axis=-1, keepdims=True), 1e-300)
    return out


@pytest.mark.parametrize("sizes", [assay.BatchSizes(1), assay.BatchSizes(4), assay.BatchSizes.any()])
def test_fixed_tile_serves_what_fits(offer, sizes):
    """Smaller requests are padded; scale is that of the request's own depth."""
    attention = offer(tile_kernel, form="items", item_shape=TILE, batch_sizes=sizes).op("attention")
    rng = np.random.default_rng(1)

    for heads, group, length, keys, depth, value_depth in REQUESTS:
        q = rng.normal(size=(2, heads, length, depth)).astype(np.float32)
        k = rng.normal(size=(2, heads // group, keys, depth)).astype(np.float32)
        v = rng.normal(size=(2, heads // group, keys, value_depth)).astype(np.float32)
        mask = rng.random((heads, length, keys)) < 0.7
        params = {"causal": True, "causal_offset": 1, "softcap": 3.0}
        got = attention(q, k, v, mask=mask, **params)
        np.testing.assert_allclose(got, reference(q, k, v, mask, **params), atol=1e-6)


@pytest.mark.parametrize("size", [(65, 48, 32, 40), (64, 49, 32, 40), (64, 48, 33, 40), (64, 48, 32, 41)])
def test_larger_requests_are_refused_not_cut(offer, size):
    """One more query, key or element of depth than the tile has: nobody takes it, and the reason says why."""
    length, keys, depth, value_depth = size
    attention = offer(tile_kernel, form="items", item_shape=TILE).op("attention")
    q, k, v = (np.ones(shape, np.float32) for shape in ((length, depth), (keys, depth), (keys, value_depth)))

    with pytest.raises(assay.NoImplementation, match=r"do not fit the kernel's tile \(64, 48, 32, 40\)"):
        attention(q, k, v)


def test_without_a_tile_items_have_the_sizes_of_the_request(offer):
    """An item kernel without item_shape gets the heads one by one, as large as they are."""
    seen = set()

    def kernel(q, k, v, mask, *, causal, causal_offset, scale, softcap):
        params = {"causal": causal, "causal_offset": causal_offset, "scale": scale, "softcap": softcap}
        seen.add((q.shape[1:], k.shape[1:], v.shape[1:], mask.shape[1:]))
        return reference(q, k, v, mask, **params).astype(q.dtype)

    attention = offer(kernel, form="items").op("attention")
    seen.clear()
    q, k, v = (np.ones(shape, np.float32) for shape in ((2, 5, 8), (1, 7, 8), (1, 7, 3)))

    np.testing.assert_allclose(np.ones((2, 5, 3)), attention(q, k, v), atol=1e-6)
    assert {((5, 8), (7, 8), (7, 3), (5, 7))} == seen


def test_no_keys_are_zeros_without_a_call(offer):
    """There is nothing for a kernel to do."""
    attention = offer(tile_kernel, form="items", item_shape=TILE).op("attention")
    out = np.full((2, 5, 8), np.nan, np.float32)

    attention(np.ones((2, 5, 8), np.float32), *np.ones((2, 2, 0, 8), np.float32), out=out)
    np.testing.assert_array_equal(np.zeros((2, 5, 8)), out)
