"""What a call through the bound operation costs over calling ONNX Runtime or PyTorch directly.

    python benchmarks/bound_overhead_peers.py [--calls 500] [--rounds 41]

Requests are small, so that the call is what is measured. Direct means what a program would write that has
NumPy arrays and wants NumPy arrays. The figure is the median over interleaved rounds of the difference.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import assay
import numpy as np
import torch
from assay_attention.backends import onnxruntime as attention_onnxruntime
from assay_gelu.backends import onnxruntime as gelu_onnxruntime

LIMIT_US = 2.0


def contestants(runtime: assay.Runtime) -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """By name, the call through the bound operation and the direct one."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(64, dtype=np.float32)
    q, k, v = rng.standard_normal((3, 2, 8, 16), dtype=np.float32)
    gelu = {name: runtime.op("gelu", require=name) for name in ("onnxruntime", "torch")}
    attention = {name: runtime.op("attention", require=name) for name in ("onnxruntime", "torch")}
    gelu_session = gelu_onnxruntime._session("none", 1)
    attention_session = attention_onnxruntime._session(1, 0, False, None, 0.0)
    functional, wrap = torch.nn.functional, torch.from_numpy

    def attend() -> Any:
        return attention_session.run(None, {"q": q[None], "k": k[None], "v": v[None]})[0][0]

    return {
        "gelu, onnxruntime": (
            lambda: gelu["onnxruntime"](x),
            lambda: gelu_session.run(None, {"x": x})[0],
        ),
        "gelu, torch": (lambda: gelu["torch"](x), lambda: functional.gelu(wrap(x)).numpy()),
        "attention, onnxruntime": (lambda: attention["onnxruntime"](q, k, v), attend),
        "attention, torch": (
            lambda: attention["torch"](q, k, v),
            # With four axes: with three it is three times slower.
            lambda: functional.scaled_dot_product_attention(
                wrap(q[None]), wrap(k[None]), wrap(v[None])
            ).numpy()[0],
        ),
    }


def microseconds(call: Callable[[], Any], calls: int) -> float:
    """Processor time of one call."""
    start = time.thread_time()
    for _ in range(calls):
        call()
    return (time.thread_time() - start) / calls * 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=41)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with assay.Runtime({"threads": 1}, ops=["gelu", "attention"]) as runtime:
        for name, (bound, direct) in contestants(runtime).items():
            bound(), direct()
            pairs = [
                (microseconds(bound, arguments.calls), microseconds(direct, arguments.calls))
                for _ in range(arguments.rounds)
            ]
            overhead = statistics.median(b - d for b, d in pairs)
            direct_us = statistics.median(d for _, d in pairs)
            verdict = "within" if overhead <= LIMIT_US else "ABOVE"
            print(
                f"{name:<24} direct {direct_us:6.2f} us, bound + {overhead:5.2f} us, {verdict} {LIMIT_US} us"
            )


if __name__ == "__main__":
    main()
