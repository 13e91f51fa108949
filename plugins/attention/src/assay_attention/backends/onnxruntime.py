"""Attention through ONNX Runtime: a session of a one-node graph per set of attributes."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import assay
import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from assay_attention.masks import causal_mask, four_axes, mask_with_four_axes, with_causal
from assay_attention.sizes import Shape

OPSET = 23  # the first that has Attention
SESSIONS = 16
"""Sessions kept. Shapes are free in a session; there is one per scale, softcap and kind of mask."""


def not_empty(q: Shape, k: Shape, v: Shape) -> bool | str:
    """What ONNX Runtime takes: at least one of everything."""
    return 0 not in (*q, *k, *v) or "ONNX Runtime takes no empty sequences"


def open_attention(device: assay.Device, plan: assay.Plan) -> Callable[..., NDArray[Any]]:
    """Attention in float32 on up to ``plan.threads`` threads. Sessions are built when first asked for."""
    session_for = lru_cache(maxsize=SESSIONS)(_session)

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
        if causal and causal_offset:  # the operator's own rule has no offset
            mask = with_causal(mask, causal_mask(q.shape[-2], k.shape[-2], causal_offset))
            causal = False
        feed = {"q": four_axes(q), "k": four_axes(k), "v": four_axes(v)}
        kind = 0
        if mask is not None:
            feed["mask"] = mask_with_four_axes(mask, q, k)
            kind = TensorProto.BOOL if mask.dtype == np.bool_ else TensorProto.FLOAT
        session = session_for(plan.threads, kind, causal, scale, softcap)
        result: NDArray[Any] = session.run(None, feed)[0]
        return result[0] if q.ndim == 3 else result.reshape(*q.shape[:-1], v.shape[-1])

    return attention


def _session(threads: int, mask: int, causal: bool, scale: float | None, softcap: float) -> Any:
    attributes = {"is_causal": int(causal), "softcap": softcap}
    if scale is not None:
        attributes["scale"] = scale
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in "qkv"]
    if mask:
        inputs.append(helper.make_tensor_value_info("mask", mask, [None] * 4))
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)
    node = helper.make_node("Attention", [one.name for one in inputs], ["y"], **attributes)
    model = helper.make_model(
        helper.make_graph([node], "attention", inputs, [output]),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=10,  # as old as this opset allows, for the sake of older releases of ONNX Runtime
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that spin between calls would take the cores from whatever else serves in this process.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
