"""The float64 reference against scipy's distribution function and the plain formula."""

from __future__ import annotations

import math

import numpy as np
from assay_gelu.reference import reference
from scipy.special import ndtr

X = np.concatenate([np.linspace(-37, 37, 2001), np.logspace(-300, 300, 601), -np.logspace(-300, 1, 301)])


def test_definition_agrees_with_scipy():
    """x Phi(x) with scipy's Phi, to a few units in the last place, far down the negative tail too."""
    np.testing.assert_allclose(reference(X), X * ndtr(X), rtol=1e-13, atol=1e-300)


def test_tanh_agrees_with_the_formula():
    """x/2 (1 + tanh u) in extended precision, wherever 1 + tanh keeps its digits."""
    x = X[X > -2].astype(np.longdouble)
    x = x[x < 1e100]
    u = np.sqrt(np.longdouble(2) / np.longdouble(math.pi)) * (x + np.longdouble("0.044715") * x**3)

    np.testing.assert_allclose(
        reference(x, approximate="tanh"), (x / 2 * (1 + np.tanh(u))).astype(float), rtol=1e-13, atol=1e-300
    )


def test_limits():
    """Infinity stays, minus infinity goes to zero, NaN stays, in both forms."""
    x = np.array([np.inf, -np.inf, np.nan])

    for form in ("none", "tanh"):
        np.testing.assert_array_equal([np.inf, 0.0, np.nan], reference(x, approximate=form))
