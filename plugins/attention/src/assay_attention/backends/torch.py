"""Attention through PyTorch's scaled_dot_product_attention, on NumPy's memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import assay
import torch
from numpy.typing import NDArray

from assay_attention.masks import causal_mask, four_axes, mask_with_four_axes, with_causal


def open_attention(device: assay.Device, plan: assay.Plan) -> Callable[..., NDArray[Any]]:
    """Attention without softcap on up to ``plan.threads`` threads.

    PyTorch keeps the number of threads per calling thread, with the last one set as the default of new ones.
    Where it differs from the plan's it is set for the length of a call and put back, so that the program's
    own use of PyTorch keeps its setting.
    """

    attend = torch.nn.functional.scaled_dot_product_attention

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
        if causal and (causal_offset or mask is not None):  # its own rule has no offset and excludes a mask
            mask = with_causal(mask, causal_mask(q.shape[-2], k.shape[-2], causal_offset))
            causal = False
        given: dict[str, Any] = {}  # only what differs from the defaults: it takes microseconds to read more
        if mask is not None:
            given["attn_mask"] = _tensor(mask_with_four_axes(mask, q, k))
        if causal:
            given["is_causal"] = True
        if scale is not None:
            given["scale"] = scale
        if q.shape[:-2] != k.shape[:-2]:
            given["enable_gqa"] = True
        tensors = [_tensor(four_axes(array)) for array in (q, k, v)]
        threads = torch.get_num_threads()
        if threads != plan.threads:
            torch.set_num_threads(plan.threads)
        try:
            result = attend(*tensors, **given)
        finally:
            if threads != plan.threads:
                torch.set_num_threads(threads)
        answer: NDArray[Any] = result.numpy()
        return answer[0] if q.ndim == 3 else answer.reshape(*q.shape[:-1], v.shape[-1])

    return attention


def _tensor(array: NDArray[Any]) -> torch.Tensor:
    # PyTorch has no read-only tensors and warns of them.
    return torch.from_numpy(array if array.flags.writeable else array.copy())
