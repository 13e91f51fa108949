"""The portable attention against ONNX Runtime and PyTorch: one thread, one interleaved run.

    python benchmarks/attention_peers.py [--heads 8] [--length 1500] [--depth 64] [--causal] [--rounds 15]

Also shown is the time that the portable kernel's BLAS products and exponentials take by themselves, which is
the least that this way of computing attention can take. Every output is first compared with the float64
reference.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import assay
import numpy as np
import threadpoolctl
import torch
from assay_attention import ATTENTION
from assay_attention.backends import numpy as portable
from assay_attention.backends.onnxruntime import open_attention as open_onnxruntime
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
TORCH = "torch, scaled_dot_product_attention"
PARTS = "numpy: its products and exp alone"


def contestants(q: Float32, k: Float32, v: Float32, causal: bool) -> dict[str, Callable[[], Any]]:
    """By name, what computes attention once."""
    plan = assay.Plan(assay.Device("cpu", "cpu"), batch_size=1, threads=1)
    onnxruntime = open_onnxruntime(plan.device, plan)
    params = {**ATTENTION.defaults, "mask": None, "causal": causal}
    out = np.empty_like(q)
    tensors = [torch.from_numpy(x[None]) for x in (q, k, v)]
    attend = torch.nn.functional.scaled_dot_product_attention
    runs: dict[str, Callable[[], Any]] = {
        "numpy": lambda: portable.attention(q, k, v, **params, out=out),
        "onnxruntime": lambda: onnxruntime(q, k, v, **params),
        TORCH: lambda: attend(*tensors, is_causal=causal)[0],
    }
    if not causal:
        runs[PARTS] = lambda: parts(q, k, v, out)
    return runs


def parts(q: Float32, k: Float32, v: Float32, out: Float32) -> None:
    """What cannot be left out: both products and the exponentials, in the kernel's own blocks."""
    rows = max(1, portable.BLOCK // k.shape[1])
    score = np.empty((rows, k.shape[1]), np.float32)
    for head in range(len(q)):
        for start in range(0, q.shape[1], rows):
            query = q[head, start : start + rows]
            block = score[: len(query)]
            np.matmul(query, k[head].T, out=block)
            np.multiply(block, np.float32(0.1), out=block)  # as a scale would: exp of large scores overflows
            np.exp(block, out=block)
            np.matmul(block, v[head], out=out[head, start : start + rows])


def main() -> None:
    """Check, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--length", type=int, default=1500)
    parser.add_argument("--depth", type=int, default=64)
    parser.add_argument("--causal", action="store_true")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    threadpoolctl.threadpool_limits(1)
    torch.set_num_threads(1)

    rng = np.random.default_rng(0)
    shape = (arguments.heads, arguments.length, arguments.depth)
    q, k, v = (rng.standard_normal(shape, dtype=np.float32) for _ in range(3))
    runs = contestants(q, k, v, arguments.causal)
    params = {**ATTENTION.defaults, "causal": arguments.causal}
    expected = ATTENTION.reference(q, k, v, **params)
    limit = ATTENTION.tolerance("", (q, k, v, None), params, expected, assay.Accuracy.EXACT).max_abs
    for name, run in runs.items():
        if name != PARTS:
            error = float(np.abs(np.asarray(run()) - expected).max())
            assert error <= limit, f"{name} is off by {error}"

    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(arguments.rounds):
        for name, run in runs.items():
            start = time.thread_time()  # what the call itself took, whatever else runs
            run()
            seconds[name].append(time.thread_time() - start)

    kind = "causal" if arguments.causal else "full"
    print(f"attention {shape} float32, {kind}, one thread, median of {arguments.rounds} interleaved rounds")
    base = np.asarray(seconds[TORCH])
    for name, spent in seconds.items():
        ratio = float(np.median(base / np.asarray(spent)))
        print(f"  {name:<36} {np.median(spent) * 1e3:8.2f} ms  {ratio:6.2f} x torch's speed")


if __name__ == "__main__":
    main()
