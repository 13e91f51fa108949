"""The float64 definition as an implementation: slow, always there, the last to fall back on."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from assay_attention.reference import reference


def attention(q: NDArray[Any], k: NDArray[Any], v: NDArray[Any], **params: Any) -> NDArray[Any]:
    """Attention in float64, rounded once to the dtype of ``q``."""
    return reference(q, k, v, **params).astype(q.dtype)
