"""The portable GELU against scipy's erf formula, ONNX Runtime and PyTorch: one thread, one interleaved run.

    python benchmarks/gelu_peers.py [--rows 1500] [--columns 1536] [--rounds 21]

Every output is first compared with the float64 reference.
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
from assay_gelu import GELU
from assay_gelu.backends import numpy as portable
from assay_gelu.backends.onnxruntime import open_gelu as open_onnxruntime
from assay_gelu.reference import reference
from numpy.typing import NDArray
from scipy.special import erf

Float32 = NDArray[np.float32]
SCIPY = "scipy, x/2 (1 + erf(x / sqrt 2))"


def contestants(x: Float32, out: Float32) -> dict[str, Callable[[], Any]]:
    """By name, what computes GELU of ``x`` once."""
    plan = assay.Plan(assay.Device("cpu", "cpu"), batch_size=1, threads=1)
    onnxruntime = open_onnxruntime(plan.device, plan)
    tensor, result = torch.from_numpy(x), torch.from_numpy(out)
    root = np.float32(np.sqrt(2))
    return {
        "numpy": lambda: portable.gelu(x, approximate="none", out=out),
        SCIPY: lambda: 0.5 * x * (1 + erf(x / root)),
        "onnxruntime": lambda: onnxruntime(x, approximate="none"),
        "torch, out=": lambda: torch.nn.functional.gelu(tensor, out=result),
        "copy": lambda: np.copyto(out, x),
    }


def main() -> None:
    """Check, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1500)
    parser.add_argument("--columns", type=int, default=1536)
    parser.add_argument("--rounds", type=int, default=21)
    arguments = parser.parse_args()
    threadpoolctl.threadpool_limits(1)
    torch.set_num_threads(1)

    x = 2 * np.random.default_rng(0).standard_normal((arguments.rows, arguments.columns), dtype=np.float32)
    runs = contestants(x, np.empty_like(x))
    sample = x[:16]
    expected = reference(sample)
    limit = GELU.tolerance("", (sample,), {}, expected, assay.Accuracy.EXACT).max_abs
    for name, run in runs.items():
        if name != "copy":
            error = np.abs(np.asarray(run())[:16] - expected)
            assert (error <= limit).all(), f"{name} is off by {error.max()}"

    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(arguments.rounds):
        for name, run in runs.items():
            start = time.thread_time()  # what the call itself took, whatever else runs
            run()
            seconds[name].append(time.thread_time() - start)

    print(f"gelu {x.shape} float32, one thread, median of {arguments.rounds} interleaved rounds")
    base = np.asarray(seconds[SCIPY])
    for name, spent in seconds.items():
        ratio = float(np.median(base / np.asarray(spent)))
        print(f"  {name:<34} {np.median(spent) * 1e3:8.2f} ms  {ratio:6.1f} x the scipy formula's speed")


if __name__ == "__main__":
    main()
