"""A kernel of one fixed size serves any shape."""

from __future__ import annotations

import assay
import numpy as np
import pytest
from scipy.special import ndtr

ITEMS = {"form": "items", "params": {"approximate": {"none"}}}


def tile_kernel(shape):
    """A kernel that takes blocks of one shape only, as a compiled device kernel does."""

    def kernel(x, *, approximate, out):
        assert x.shape[1:] == shape
        assert approximate == "none"
        out[...] = x * ndtr(x)
        return out

    return kernel


@pytest.mark.parametrize("shape", [(512,), (2048,), (16, 17)])
@pytest.mark.parametrize("sizes", [assay.BatchSizes(1), assay.BatchSizes(4, 8), assay.BatchSizes.any()])
def test_fixed_size_kernel_serves_any_shape(offer, shape, sizes):
    """Proved, and right on requests that fill no tile, one tile, several tiles and nothing at all."""
    runtime = offer(tile_kernel(shape), **ITEMS, item_shape=shape, batch_sizes=sizes)
    gelu = runtime.op("gelu")

    for request in [(), (0,), (1,), shape, (3, 1000), (7, 11, 13)]:
        x = np.asarray(np.random.default_rng(2).normal(0, 2, request), np.float32)
        np.testing.assert_allclose(gelu(x), x * ndtr(x), atol=2e-6)
        assert gelu(x).shape == request


def test_out_is_filled(offer):
    """The caller's own array takes the rows."""
    runtime = offer(tile_kernel((512,)), **ITEMS, item_shape=(512,))
    x = np.linspace(-3, 3, 1300, dtype=np.float32).reshape(13, 100)
    out = np.full_like(x, np.nan)

    assert runtime.op("gelu")(x, out=out) is out
    np.testing.assert_allclose(out, x * ndtr(x), atol=2e-6)


def test_kernel_without_a_shape_of_its_own_gets_rows(offer):
    """Without item_shape the blocks are rows of 2,048 elements."""
    runtime = offer(tile_kernel((2048,)), **ITEMS)

    assert runtime.op("gelu")(np.ones((5, 1000), np.float32)).shape == (5, 1000)
