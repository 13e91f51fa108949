"""Kernels that are wrong in ways that happen: each is rejected, and the probe that caught it is named."""

from __future__ import annotations

import assay
import numpy as np
import pytest
from scipy.special import erf, expit, ndtr

SQRT_HALF = np.float32(np.sqrt(0.5))


def by_erf(x):
    return (0.5 * x * (1 + erf(x * SQRT_HALF))).astype(x.dtype)


def by_tanh(x):
    with np.errstate(over="ignore"):
        u = np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x * x * x)
    return 0.5 * x * (1 + np.tanh(u))


def right(x, *, approximate):
    # NumPy makes scalars of 0-d arrays.
    return np.asarray(by_tanh(x) if approximate == "tanh" else by_erf(x))


def tanh_for_erf(x, *, approximate):
    return right(x, approximate="tanh")


def erf_for_tanh(x, *, approximate):
    return right(x, approximate="none")


def logistic(x, *, approximate):
    with np.errstate(over="ignore"):
        return np.asarray(x * expit(np.float32(1.702) * x))


def relu(x, *, approximate):
    return np.asarray(np.maximum(x, 0))


def codes_without_scale(x, *, approximate):
    """Quantised to int8, and the scale is forgotten."""
    y = right(x, approximate=approximate)
    scale = max(float(np.abs(y).max(initial=0)), 1e-30) / 127
    return np.asarray(np.rint(y / scale), np.float32)


def quantised(x, *, approximate):
    """Quantised to int8 and back: near, but not exact."""
    y = right(x, approximate=approximate)
    scale = max(float(np.abs(y).max(initial=0)), 1e-30) / 127
    return np.asarray(np.rint(y / scale) * scale, np.float32)


def first_tile_only(x, *, approximate):
    y = right(x, approximate=approximate).ravel()
    y[2048:] = 0
    return y.reshape(x.shape)


def tail_dropped(x, *, approximate):
    """What does not fill a vector of 16 is left at zero."""
    y = right(x, approximate=approximate).ravel()
    y[y.size // 16 * 16 :] = 0
    return y.reshape(x.shape)


def clamped(x, *, approximate):
    return np.asarray(np.minimum(right(x, approximate=approximate), 8))


def half(x, *, approximate):
    with np.errstate(over="ignore"):
        return right(x, approximate=approximate).astype(np.float16).astype(np.float32)


def no_negative_tail(x, *, approximate):
    return np.asarray(np.where(x < -3, 0, right(x, approximate=approximate)), np.float32)


def zeros(x, *, approximate):
    return np.zeros_like(x)


WRONG = [
    tanh_for_erf,
    erf_for_tanh,
    logistic,
    relu,
    codes_without_scale,
    quantised,
    first_tile_only,
    tail_dropped,
    clamped,
    half,
    no_negative_tail,
    zeros,
]


@pytest.mark.parametrize("kernel", WRONG, ids=lambda kernel: kernel.__name__)
def test_wrong_kernel_is_rejected(offer, kernel):
    """The reason says which probe caught it."""
    candidate = offer(kernel).explain("gelu")["offered"]

    assert candidate.verdict is assay.Verdict.REJECTED
    assert [reason.code for reason in candidate.reasons] == [assay.ReasonCode.INACCURATE]
    assert "probe '" in candidate.reasons[0].message


def test_right_kernel_is_admitted(offer):
    """The plain formula in float32 passes: the gate is not merely closed."""
    candidate = offer(right).explain("gelu")["offered"]

    assert candidate.verdict is assay.Verdict.CHOSEN, str(candidate.reasons)


def test_one_form_passes_where_it_says_so(offer):
    """A kernel that knows one form only is rejected, and admitted once it declares that form."""
    remedy = offer(tanh_for_erf).explain("gelu")["offered"].reasons[0].remedy
    assert "declare params={\"approximate\": {'tanh'}}" in remedy

    candidate = offer(tanh_for_erf, params={"approximate": {"tanh"}}).explain("gelu")["offered"]
    assert candidate.verdict is assay.Verdict.CHOSEN, str(candidate.reasons)


def test_ndtr_in_double_precision_is_admitted(offer):
    """float64 is probed in float64."""

    def kernel(x, *, approximate):
        return np.asarray(x * ndtr(x))

    candidate = offer(kernel, dtypes={"float32", "float64"}, params={"approximate": {"none"}})
    assert candidate.explain("gelu")["offered"].verdict is assay.Verdict.CHOSEN
