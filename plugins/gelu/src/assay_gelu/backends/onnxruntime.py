"""GELU through ONNX Runtime: one session of a one-node graph per value of ``approximate``."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import assay
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

OPSET = 20  # the first that has Gelu


def open_gelu(device: assay.Device, plan: assay.Plan) -> Callable[..., NDArray[Any]]:
    """GELU in float32 on up to ``plan.threads`` threads. Sessions are built when first asked for."""
    sessions: dict[str, Any] = {}
    building = threading.Lock()

    def gelu(x: NDArray[Any], *, approximate: str) -> NDArray[Any]:
        session = sessions.get(approximate)
        if session is None:
            with building:
                session = sessions.setdefault(approximate, _session(approximate, plan.threads))
        result: NDArray[Any] = session.run(None, {"x": x})[0]
        return result

    return gelu


def _session(approximate: str, threads: int) -> Any:
    node = helper.make_node("Gelu", ["x"], ["y"], approximate=approximate)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, None)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    model = helper.make_model(
        helper.make_graph([node], "gelu", [x], [y]),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=9,  # the oldest with this opset: readable by every ONNX Runtime that has Gelu
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that spin between calls would take the cores from whatever else serves in this process.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
