"""GELU through scipy's normal distribution and logistic functions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtr

LOWEST = -40.0
"""From here down GELU is zero in float64 too; infinity stays out of the products below."""


def gelu(x: NDArray[Any], *, approximate: str, out: NDArray[Any]) -> NDArray[Any]:
    """x Phi(x), or x / (1 + exp(-2 u)) for "tanh"; float32 and float64, in the dtype of ``x``."""
    x = np.maximum(x, LOWEST)
    if approximate == "tanh":
        with np.errstate(over="ignore"):  # above 1e12 the cube is infinite and the logistic function 1
            u = math.sqrt(8 / math.pi) * (x + 0.044715 * (x * x * x))
        expit(u, out=out)
    else:
        ndtr(x, out=out)
    out *= x
    return out
