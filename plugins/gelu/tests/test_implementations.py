"""Every implementation over shapes, dtypes and the ranges where approximations fail."""

from __future__ import annotations

import assay
import ml_dtypes
import numpy as np
import pytest
from assay_gelu import GELU
from assay_gelu.reference import reference
from scipy.special import ndtr


def check(got, x, approximate="none"):
    """Hold a result against the reference within the contract's exact tolerance."""
    assert got.shape == x.shape
    assert got.dtype == x.dtype
    expected = reference(x, approximate=approximate)
    limit = GELU.tolerance("", (x,), {}, expected, assay.Accuracy.EXACT).max_abs
    error = np.abs(got.astype(np.float64) - expected)
    assert (error <= limit).all(), f"off by {error.max()}"


@pytest.mark.parametrize("approximate", ["none", "tanh"])
@pytest.mark.parametrize(
    "shape", [(), (0,), (2, 0, 3), (1,), (3, 5, 7), (511,), (513,), (16384,), (16385,), (40000,)]
)
def test_shapes(gelu, shape, approximate):
    """Any shape: 0-d, empty, and on both sides of a cache block."""
    x = np.asarray(np.random.default_rng(1).normal(0, 2, shape), np.float32)

    check(gelu(x, approximate=approximate), x, approximate)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_range(gelu, approximate):
    """From the largest negative number to the largest positive one, denormals and signed zeros included."""
    large = np.float32(10) ** np.arange(-45, 38, 0.25, dtype=np.float32)
    x = np.concatenate([np.linspace(-12, 12, 10001, dtype=np.float32), large, -large, [np.float32(-0.0)]])

    check(gelu(x, approximate=approximate), x, approximate)


@pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16])
def test_half_precision(gelu, dtype):
    """Half precision is computed in single and rounded once."""
    x = np.linspace(-9, 9, 2001).astype(dtype)

    check(gelu(x), x)


def test_double_precision_keeps_its_digits(request, gelu):
    """Who takes float64 computes in it: relative to scipy, to a part in 1e12."""
    if gelu.serving in ("gelu.numpy", "gelu.onnxruntime"):
        with pytest.raises(assay.NoImplementation, match="takes float32, not float64"):
            gelu(np.zeros(3))
        return
    x = np.linspace(-3, 8, 1001)

    np.testing.assert_allclose(gelu(x), x * ndtr(x), rtol=1e-12, atol=1e-15)


def test_nan_stays_nan(gelu):
    """NaN gives NaN, and only there."""
    x = np.array([1, np.nan, -1, 0.5], np.float32)

    assert np.isnan(gelu(x)).tolist() == [False, True, False, False]


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_infinities(gelu, approximate):
    """The implementations written here go to the limits: infinity, and zero."""
    if gelu.serving in ("gelu.torch", "gelu.onnxruntime"):
        pytest.skip("libraries do not agree on infinities; the contract leaves them open")

    np.testing.assert_array_equal(
        [np.inf, 0], gelu(np.array([np.inf, -np.inf], np.float32), approximate=approximate)
    )


def test_caller_arrays(gelu):
    """Strided, reversed and read-only inputs are served and left alone; ``out`` is filled and returned."""
    base = np.linspace(-4, 4, 60, dtype=np.float32).reshape(6, 10)
    frozen = base.copy()
    frozen.flags.writeable = False
    for x in (base[:, ::2], base[::-1], base.T, frozen):
        before, out = x.copy(), np.full(x.shape, np.nan, np.float32)
        assert gelu(x, out=out) is out
        check(out, before)
        np.testing.assert_array_equal(before, x)


def test_result_is_the_callers_own(gelu):
    """A later call leaves an earlier result alone."""
    first = gelu(np.ones(5, np.float32))
    kept = first.copy()
    gelu(np.zeros(5, np.float32))

    np.testing.assert_array_equal(kept, first)
