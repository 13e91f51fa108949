"""What a bound call costs over calling the kernel's own function.

    python benchmarks/overhead.py [--calls 200] [--rounds 301]

The kernel copies eight floats, so that the call is what is measured. Figures are medians over interleaved
rounds; the last columns hold them against a plain Python call and against ONNX Runtime's ``run`` of a Gelu of
eight floats in the same rounds, which says more on a machine that is shared.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

sys.path.insert(0, str(Path(__file__).parents[1] / "core" / "tests"))

from toys import offer, runtime

LIMIT_US, FINITE_US, PEER = 0.6, 1.0, 1 / 5
"""The overhead, what looking for NaN may add, and the share of the peer's call."""


def copy(x: Any, *, factor: float) -> Any:
    """The kernel: one line."""
    return x.copy()


def open_copy(device: Any, plan: Any) -> Any:
    """The same, opened: called by one thread at a time."""
    return lambda x, *, factor: x.copy()


def peer() -> Callable[[Any], Any]:
    """ONNX Runtime's run of a tiny Gelu, as a program would call it."""
    node = helper.make_node("Gelu", ["x"], ["y"])
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [8]) for name in "xy")
    graph = helper.make_graph([node], "gelu", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    providers = ["CPUExecutionProvider"]
    run = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers).run
    return lambda x: run(None, {"x": x})


def measure(calls: int, call: Callable[..., Any], x: Any, **keywords: Any) -> float:
    """Microseconds of one call, without those of the loop."""
    numbers = range(calls)
    start = time.perf_counter()
    for _ in numbers:
        call(x, **keywords)
    called = time.perf_counter()
    for _ in numbers:
        pass
    return (2 * called - start - time.perf_counter()) / calls * 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=301)
    options = parser.parse_args()
    x, ort = np.arange(8, dtype=np.float32), peer()
    opened = offer("opened", open_copy, 10).model_copy(update={"kernel": None, "opener": open_copy})
    unchecked = runtime(offer("copy", copy), fallback={"check": "never"})
    with runtime(offer("copy", copy, 60), opened) as rt, unchecked:
        bare, checked = unchecked.op("scale"), rt.op("scale")
        ways: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
            "its own function": (copy, {"factor": 2}),
            "a plain call": (lambda x: x, {}),
            "ONNX Runtime": (ort, {}),
            "bound": (bare, {}),
            "bound, NaN looked for": (checked, {}),
            "... with a keyword": (checked, {"factor": 3}),
            "... one owner at a time": (rt.op("scale", require="opened"), {}),
        }
        for call, keywords in ways.values():
            for _ in range(3):
                call(x, **keywords)
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(options.rounds):
            for name, (call, keywords) in ways.items():
                times[name].append(measure(options.calls, call, x, **keywords))
    own, plain, run = (times[name] for name in list(ways)[:3])
    print(f"{'':<26}{'median':>8}{'over the own':>15}{'plain calls':>13}{'of ONNX Runtime':>17}")
    for name, taken in times.items():
        over = [a - b for a, b in zip(taken, own, strict=True)]
        per_plain = statistics.median(a / b for a, b in zip(over, plain, strict=True))
        of_peer = statistics.median(a / b for a, b in zip(over, run, strict=True))
        figures = f"{statistics.median(taken):5.2f} us"
        if name.startswith(("bound", "...")):
            figures += f"{statistics.median(over):12.2f} us{per_plain:13.1f}{of_peer:17.2f}"
        print(f"{name:<26}{figures}")
    print(f"aimed at: bound {LIMIT_US} us and {PEER} of ONNX Runtime; looking for NaN {FINITE_US} us more")


if __name__ == "__main__":
    main()
