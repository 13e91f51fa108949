"""The float64 definition as an implementation: slow, always there, the last to fall back on."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from assay_gelu.reference import reference


def gelu(x: NDArray[Any], *, approximate: str) -> NDArray[Any]:
    """GELU in float64, rounded once to the dtype of ``x``."""
    return reference(x, approximate=approximate).astype(x.dtype)
