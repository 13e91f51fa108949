"""Multi-head attention over (length, model)."""

from __future__ import annotations

import assay
import numpy as np
import pytest
from assay_attention import multi_head_attention
from assay_attention.reference import reference


def noise(*shape, dtype=np.float32):
    return np.random.default_rng([*shape]).normal(size=shape).astype(dtype)


def head_by_head(q, k, v, num_heads, mask=None):
    """Each head's own columns, put side by side."""
    parts = zip(*(np.split(array, num_heads, axis=-1) for array in (q, k, v)), strict=True)
    masks = [None] * num_heads if mask is None else np.broadcast_to(mask, (num_heads, len(q), len(k)))
    results = [reference(*part, one) for part, one in zip(parts, masks, strict=True)]
    return np.concatenate(results, axis=-1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_heads_lie_side_by_side(dtype):
    """Without a runtime, every head distinct, keys and value model of their own sizes."""
    q, k, v = noise(9, 24, dtype=dtype), noise(11, 24, dtype=dtype), noise(11, 32, dtype=dtype)
    mask = np.random.default_rng(1).random((4, 9, 11)) < 0.7

    got = multi_head_attention(q, k, v, num_heads=4, mask=mask)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, head_by_head(q, k, v, 4, mask), atol=4e-6)


def test_through_a_runtime(attention):
    """The bound operation computes it; a batch is a leading axis."""
    q, k, v = noise(2, 9, 24), noise(2, 11, 24), noise(2, 11, 24)

    got = multi_head_attention(q, k, v, num_heads=3, attention=attention)
    expected = [head_by_head(*arrays, 3) for arrays in zip(q, k, v, strict=True)]
    np.testing.assert_allclose(got, expected, atol=4e-6)


@pytest.mark.parametrize("num_heads", [0, 5])
def test_heads_must_divide_the_model(num_heads):
    """The message shows the array, its shape and the number of heads."""
    x = noise(9, 24)
    with pytest.raises(assay.InvalidInput, match=rf"q has shape \(9, 24\); .* num_heads={num_heads} divides"):
        multi_head_attention(x, x, x, num_heads=num_heads)


def test_half_precision_needs_a_runtime():
    """The portable kernel does not convert."""
    x = noise(9, 24).astype(np.float16)
    with pytest.raises(assay.InvalidInput, match="float16 needs a runtime"):
        multi_head_attention(x, x, x, num_heads=3)
