"""The contract: what is accepted, what is returned, how far a result may be off."""

from __future__ import annotations

import assay
import ml_dtypes
import numpy as np
import pytest
from assay_gelu import GELU


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", ml_dtypes.bfloat16])
@pytest.mark.parametrize("shape", [(), (0,), (3, 5)])
def test_result_is_like_the_input(dtype, shape):
    """The result has the shape and dtype of x."""
    spec = GELU.infer(np.zeros(shape, dtype), approximate="none")

    assert assay.Spec(shape, np.dtype(dtype)) == spec


def test_foreign_dtype_is_refused():
    """An integer array is refused with what is accepted and how to convert it."""
    with pytest.raises(assay.InvalidInput, match=r"int32, expected one of float64, .*astype"):
        GELU.infer(np.zeros(3, np.int32))


def test_unknown_approximation_is_refused():
    """A value of approximate that does not exist is refused with those that do."""
    with pytest.raises(assay.InvalidInput, match="approximate='fast', expected 'none' or 'tanh'"):
        GELU.infer(np.zeros(3, np.float32), approximate="fast")


def limits(expected, dtype="float32", accuracy=assay.Accuracy.EXACT):
    """The largest admitted error of each element."""
    expected = np.asarray(expected, np.float64)
    inputs = (np.zeros(expected.shape, dtype),)
    return GELU.tolerance("", inputs, {"approximate": "none"}, expected, accuracy).max_abs


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_exact_tolerance_is_absolute_for_small_results_and_relative_for_large_ones(dtype):
    """Exact means 2e-6 or four units in the last place of the result's dtype, the larger."""
    expected = np.array([0, -0.17, 0.9, 1.0, 1.5, 900.0, 6e4])
    ulp = np.spacing(np.abs(expected).astype(dtype)).astype(np.float64)

    np.testing.assert_array_equal(np.maximum(2e-6, 4 * ulp), limits(expected, dtype))


def test_approximate_tolerance_follows_the_range_of_the_output():
    """Approximate means one hundredth of the distance from the least to the largest result."""
    approximate = limits([-0.17, 0.0, 3.83], accuracy=assay.Accuracy.APPROXIMATE)

    np.testing.assert_allclose(approximate, 0.04)


def test_tolerance_of_nothing_is_nothing():
    """An empty result has no element to limit."""
    assert limits(np.zeros((0,)), accuracy=assay.Accuracy.APPROXIMATE).shape == (0,)
