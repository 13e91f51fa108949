"""GELU in float64, from its definition: what every implementation is compared with."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def reference(x: NDArray[Any], *, approximate: str = "none") -> NDArray[np.float64]:
    """GELU of every element, in float64.

    "none" is x Phi(x) = x/2 erfc(-x / sqrt 2); erfc keeps the digits of the negative tail that
    1 + erf loses. "tanh" is x/2 (1 + tanh(u)) = x / (1 + exp(-2 u)) with
    u = sqrt(2/pi) (x + 0.044715 x^3), for the same reason (Hendrycks and Gimpel, arXiv:1606.08415).
    Minus infinity gives 0, the limit.

    Args:
        x: Any shape and any real dtype.
        approximate: "none" or "tanh".

    Returns:
        An array of the shape of ``x``.
    """
    x = np.asarray(x).astype(np.float64)
    if approximate == "tanh":
        with np.errstate(over="ignore", invalid="ignore"):
            u = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
            y = x / (1 + np.exp(-2 * u))
    else:
        tails = map(math.erfc, (x.ravel() * -math.sqrt(0.5)).tolist())
        with np.errstate(invalid="ignore"):
            y = 0.5 * x * np.fromiter(tails, np.float64, x.size).reshape(x.shape)
    return np.where(np.isneginf(x), 0.0, y)
