"""Multi-head attention over (length, model): the heads side by side in the last axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from assay import InvalidInput
from numpy.typing import NDArray

from assay_attention.backends.numpy import attention as portable
from assay_attention.operation import infer

Attention = Callable[..., NDArray[Any]]


def multi_head_attention(
    q: NDArray[Any],
    k: NDArray[Any],
    v: NDArray[Any],
    *,
    num_heads: int,
    mask: NDArray[Any] | None = None,
    attention: Attention | None = None,
) -> NDArray[Any]:
    """Attention of ``num_heads`` heads that lie side by side in the last axis.

    Args:
        q: (..., length, model), where model is num_heads times the depth of a head.
        k: (..., keys, model).
        v: (..., keys, value model), a multiple of ``num_heads`` too.
        num_heads: How many heads there are.
        mask: Broadcasts to (..., num_heads, length, keys), boolean or additive.
        attention: Who computes it: ``rt.op("attention")`` of a runtime, or anything that is called like it.
            None: the portable NumPy kernel of this package, without a runtime and so without proof or
            fallback; it takes float32 and float64.

    Returns:
        (..., length, value model): the heads' results side by side.

    Raises:
        InvalidInput: Shapes or dtypes that do not fit together.
    """
    heads = [_apart(name, array, num_heads) for name, array in (("q", q), ("k", k), ("v", v))]
    result = (attention or _portable)(*heads, mask=mask)
    together = result.swapaxes(-2, -3)
    return together.reshape(*together.shape[:-2], -1)


def _apart(name: str, array: NDArray[Any], num_heads: int) -> NDArray[Any]:
    """(..., length, model) to (..., heads, length, depth)."""
    array = np.asarray(array)
    if array.ndim < 2 or num_heads < 1 or array.shape[-1] % num_heads:
        raise InvalidInput(
            f"multi_head_attention: {name} has shape {array.shape}; expected (..., length, model) with a "
            f"model that num_heads={num_heads} divides"
        )
    depth = array.shape[-1] // num_heads
    return array.reshape(*array.shape[:-1], num_heads, depth).swapaxes(-2, -3)


def _portable(
    q: NDArray[Any], k: NDArray[Any], v: NDArray[Any], *, mask: NDArray[Any] | None
) -> NDArray[Any]:
    spec = infer(q, k, v, mask=mask)
    if spec.dtype == np.float16:
        raise InvalidInput("multi_head_attention: float16 needs a runtime; give attention=rt.op('attention')")
    return portable(
        *map(np.ascontiguousarray, (q, k, v)),
        mask=mask,
        causal=False,
        causal_offset=0,
        scale=None,
        softcap=0.0,
        out=np.empty(spec.shape, spec.dtype),
    )
