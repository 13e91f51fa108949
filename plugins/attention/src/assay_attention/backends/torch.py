"""Attention through PyTorch's scaled_dot_product_attention, on NumPy's memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import assay
import torch
from numpy.typing import NDArray

from assay_attention.masks import causal_mask, four_axes, with_causal
from assay_attention.sizes import sizes


def open_attention(device: assay.Device, plan: assay.Plan) -> Callable[..., NDArray[Any]]:
    """Attention without softcap on up to ``plan.threads`` threads.

    PyTorch's number of threads belongs to the process, so it is set for the length of a call and put back:
    the program's own use of PyTorch keeps its setting. Calls come one at a time, so that two never undo
    each other's.
    """

    def attention(
        q: NDArray[Any],
        k: NDArray[Any],
        v: NDArray[Any],
        *,
        mask: NDArray[Any] | None,
        causal: bool,
        causal_offset: int,
        scale: float | None,
        softcap: float,
    ) -> NDArray[Any]:
        size = sizes(q.shape, k.shape, v.shape)
        if causal and (causal_offset or mask is not None):  # its own rule has no offset and excludes a mask
            mask = with_causal(mask, causal_mask(size.length, size.keys, causal_offset))
            causal = False
        query = _tensor(q).view(size.batch, size.heads, size.length, size.depth)
        key = _tensor(k).view(size.batch, size.key_heads, size.keys, size.depth)
        value = _tensor(v).view(size.batch, size.key_heads, size.keys, size.value_depth)
        bias = None if mask is None else _tensor(four_axes(mask, size))
        threads = torch.get_num_threads()
        torch.set_num_threads(plan.threads)
        try:
            result = torch.nn.functional.scaled_dot_product_attention(
                query, key, value, bias, is_causal=causal, scale=scale, enable_gqa=size.group > 1
            )
        finally:
            torch.set_num_threads(threads)
        answer: NDArray[Any] = result.numpy()
        return answer.reshape(size.result)

    return attention


def _tensor(array: NDArray[Any]) -> torch.Tensor:
    # PyTorch has no read-only tensors and warns of them.
    return torch.from_numpy(array if array.flags.writeable else array.copy())
