"""The contract: what is accepted, what is returned, how far a result may be off."""

from __future__ import annotations

import math

import assay
import numpy as np
import pytest
from assay_attention import ATTENTION


def zeros(*shapes, dtype=np.float32):
    return tuple(np.zeros(shape, dtype) for shape in shapes)


@pytest.mark.parametrize(
    ("q", "k", "v", "result"),
    [
        ((5, 8), (7, 8), (7, 3), (5, 3)),
        ((2, 5, 8), (2, 7, 8), (2, 7, 8), (2, 5, 8)),
        ((6, 5, 8), (2, 7, 8), (2, 7, 4), (6, 5, 4)),
        ((3, 2, 5, 8), (3, 1, 7, 8), (3, 1, 7, 8), (3, 2, 5, 8)),
        ((4, 3, 2, 5, 8), (4, 3, 2, 7, 8), (4, 3, 2, 7, 8), (4, 3, 2, 5, 8)),
        ((2, 0, 8), (2, 0, 8), (2, 0, 8), (2, 0, 8)),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_result_follows_the_shapes(q, k, v, result, dtype):
    """Length from q, depth from v, dtype from all three."""
    assert assay.Spec(result, np.dtype(dtype)) == ATTENTION.infer(*zeros(q, k, v, dtype=dtype))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((5,), (7,), (7,)), r"expected \(..., heads, length, depth\) for all three, or \(length, depth\)"),
        (((2, 5, 8), (7, 8), (7, 8)), "for all three"),
        (((3, 2, 5, 8), (1, 2, 7, 8), (1, 2, 7, 8)), "the same axes before"),
        (((2, 5, 8), (2, 7, 8), (2, 6, 8)), "k and v to agree in everything but their depth"),
        (((2, 5, 8), (2, 7, 8), (1, 7, 8)), "k and v to agree"),
        (((2, 5, 8), (2, 7, 9), (2, 7, 8)), "q and k to have the same depth"),
        (((2, 5, 0), (2, 7, 0), (2, 7, 8)), "at least 1"),
        (((5, 5, 8), (2, 7, 8), (2, 7, 8)), "5 heads of q to be a multiple of the 2 heads"),
        (((2, 5, 8), (0, 7, 8), (0, 7, 8)), "a multiple of the 0 heads"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shapes, message):
    """Each message shows all three shapes and what was expected."""
    with pytest.raises(assay.InvalidInput, match=message) as caught:
        ATTENTION.infer(*zeros(*shapes))
    assert all(str(shape) in str(caught.value) for shape in shapes)


def test_mixed_dtypes_are_refused():
    """One dtype for all three, and no integers."""
    q, k, v = zeros((5, 8), (7, 8), (7, 8))
    with pytest.raises(assay.InvalidInput, match="q has dtype float32, k float64, v float32; expected one"):
        ATTENTION.infer(q, k.astype(np.float64), v)
    with pytest.raises(assay.InvalidInput, match="of float16, float32, float64"):
        ATTENTION.infer(*(array.astype(np.int32) for array in (q, k, v)))


@pytest.mark.parametrize("shape", [(), (7,), (5, 7), (1, 7), (5, 1), (2, 5, 7), (3, 1, 1, 7), (3, 2, 5, 7)])
@pytest.mark.parametrize("dtype", [bool, np.float32])
def test_masks_that_broadcast_are_accepted(shape, dtype):
    """To (batch, heads, length, keys)."""
    arrays = zeros((3, 2, 5, 8), (3, 2, 7, 8), (3, 2, 7, 8))

    assert ATTENTION.infer(*arrays, mask=np.zeros(shape, dtype)).shape == (3, 2, 5, 8)


@pytest.mark.parametrize("shape", [(5,), (7, 5), (3, 5, 7), (2, 2, 5, 7), (1, 3, 2, 5, 7)])
def test_masks_that_do_not_broadcast_are_refused(shape):
    """The message shows what the mask must broadcast to."""
    arrays = zeros((3, 2, 5, 8), (3, 2, 7, 8), (3, 2, 7, 8))
    with pytest.raises(assay.InvalidInput, match=r"does not broadcast to \(3, 2, 5, 7\)"):
        ATTENTION.infer(*arrays, mask=np.zeros(shape, bool))


def test_mask_of_another_dtype_is_refused():
    """A mask is boolean or of the dtype of q."""
    with pytest.raises(assay.InvalidInput, match=r"mask has dtype float64, expected bool .* or .* float32"):
        ATTENTION.infer(*zeros((5, 8), (7, 8), (7, 8)), mask=np.zeros((5, 7)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("causal", 1),
        ("causal_offset", 1.5),
        ("scale", math.nan),
        ("scale", "auto"),
        ("softcap", -1.0),
        ("softcap", math.inf),
    ],
)
def test_parameters_that_make_no_sense_are_refused(name, value):
    """The message shows the parameter and its value."""
    with pytest.raises(assay.InvalidInput, match=f"attention: {name}={value!r}, expected"):
        ATTENTION.infer(*zeros((5, 8), (7, 8), (7, 8)), **{name: value})


def limit(score, value=1.0, accuracy=assay.Accuracy.EXACT, dtype=np.float32, result=0.5):
    """The largest admitted error where one query and key have this score and v this largest value."""
    q, k, v = np.full((1, 1, 4), 1.0, dtype), np.full((1, 1, 4), score / 2, dtype), np.full((1, 1, 2), value)
    expected = np.full((1, 1, 2), result)
    inputs = (q, k, v.astype(dtype), None)
    return ATTENTION.tolerance("", inputs, ATTENTION.defaults, expected, accuracy).max_abs


@pytest.mark.parametrize(
    ("score", "value", "expected"),
    [(1, 1, 2e-6), (6, 0.1, 2e-6), (-6, 1, 2e-6), (30, 1, 2e-5), (-30, 1, 2e-5), (1, 5, 1e-5), (30, 5, 1e-4)],
)
def test_exact_tolerance(score, value, expected):
    """2e-6, more where scores exceed 6 and where values exceed 1."""
    assert limit(score, value) == pytest.approx(expected)


def test_exact_tolerance_counts_the_given_scale():
    """The largest score is the one after scaling."""
    q = np.full((1, 1, 4), 3.0, np.float32)
    params = {**ATTENTION.defaults, "scale": 1.0}
    expected = np.zeros((1, 1, 4))

    tolerance = ATTENTION.tolerance("", (q, q, q / 3, None), params, expected, assay.Accuracy.EXACT)
    assert tolerance.max_abs == pytest.approx(2e-6 * 36 / 3)


def test_half_precision_results_may_be_off_by_their_own_rounding():
    """Two units in the last place of float16."""
    assert limit(1, dtype=np.float16, result=0.75) == pytest.approx(2 * 2.0**-11)


def test_approximate_tolerance():
    """Two hundredths of the largest value in v."""
    assert limit(1, 5.0, assay.Accuracy.APPROXIMATE) == pytest.approx(0.1)


def test_work_counts_both_products():
    """Multiply-adds: heads x queries x keys x (depth + value depth)."""
    arrays = zeros((3, 4, 5, 8), (3, 2, 7, 8), (3, 2, 7, 6))

    assert ATTENTION.work((*arrays, None), ATTENTION.defaults) == 3 * 4 * 5 * 7 * (8 + 6)
