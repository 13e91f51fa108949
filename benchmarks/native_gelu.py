"""Native GELU against PyTorch: ratios of medians of one interleaved run on one thread.

    python benchmarks/native_gelu.py [--budget 20]

Both write into memory that is there already. Every output is first compared with the float64 reference. Times
are those that the calling thread spent on a core, whatever else the machine does.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import importlib.metadata
import math
import time
from collections.abc import Callable
from typing import Any

import archspec.cpu.detect
import numpy as np
import torch
from assay_gelu.reference import reference
from assay_kernels.plugin import FEATURES
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Seconds = NDArray[np.float64]

PEER = "torch, out="
SHAPES = ((2048,), (1500, 1536), (4096, 4096))
TOLERANCE = 2e-6
AT_LEAST = 1e-3
"""Seconds of one measurement: shorter calls are repeated."""


def native_sets() -> list[str]:
    """The instruction sets that this CPU has, narrowest first."""
    cpu = frozenset(archspec.cpu.detect.detected_info().features)
    return [name for name, features in FEATURES.items() if features <= cpu]


def contestants(x: Float32, out: Float32, approximate: str) -> dict[str, Callable[[], Any]]:
    """By name, what computes GELU of ``x`` into ``out`` once. A copy is what no GELU can beat."""
    source, target = torch.from_numpy(x), torch.from_numpy(out)
    runners: dict[str, Callable[[], Any]] = {
        PEER: lambda: torch.ops.aten.gelu.out(source, approximate=approximate, out=target)
    }
    for name in native_sets():
        kernel = importlib.import_module(f"assay_kernels._{name}").open_gelu(1)
        runners[f"native-{name}"] = functools.partial(kernel, x, approximate=approximate, out=out)
    runners["copy"] = lambda: np.copyto(out, x)
    return runners


def seconds_of(run: Callable[[], Any], repeats: int) -> float:
    """Of one call."""
    start = time.thread_time()
    for _ in range(repeats):
        run()
    return (time.thread_time() - start) / repeats


def race(runners: dict[str, Callable[[], Any]], budget: float) -> dict[str, Seconds]:
    """Seconds of each contestant, round by round."""
    repeats = {name: math.ceil(AT_LEAST / seconds_of(run, 3)) for name, run in runners.items()}
    rounds: list[list[float]] = []
    end = time.perf_counter() + budget
    while time.perf_counter() < end or len(rounds) < 9:
        rounds.append([seconds_of(run, repeats[name]) for name, run in runners.items()])
    return dict(zip(runners, np.array(rounds).T, strict=True))


def report(shape: tuple[int, ...], approximate: str, budget: float) -> None:
    """Print the table of one shape."""
    x = 2 * np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    out = np.empty_like(x)
    expected = reference(x[:64], approximate=approximate)
    runners = contestants(x, out, approximate)
    errors = {}
    for name, run in runners.items():
        out.fill(np.nan)
        run()
        errors[name] = float(np.abs(out[:64] - (x[:64] if name == "copy" else expected)).max())
        if not errors[name] <= TOLERANCE or not np.isfinite(out).all():
            raise SystemExit(f"{name} is wrong by {errors[name]:.1e} on {shape}: there is nothing to compare")
    times = race(runners, budget)
    peer = times[PEER]
    print(f"\n{shape}, approximate={approximate!r}, one thread, {len(peer)} rounds")
    print(f"{'':18}{'median us':>11}{'fastest':>11}{'speed':>8}{'quartiles':>16}{'error':>10}")
    for name, own in times.items():
        low, high = np.percentile(peer / own, [25, 75])
        print(
            f"{name:18}{np.median(own) * 1e6:11.2f}{own.min() * 1e6:11.2f}"
            f"{np.median(peer) / np.median(own):7.2f}x{f'{low:.2f} to {high:.2f}':>16}{errors[name]:10.1e}"
        )


def main() -> None:
    """Run the race for each shape and form."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--budget", type=float, default=20.0, help="seconds of measuring for each table")
    budget = parser.parse_args().budget
    torch.set_num_threads(1)
    version = importlib.metadata.version("torch")
    print(f"{archspec.cpu.detect.brand_string()}; torch {version}; speed: median of {PEER} over own median")
    for shape in SHAPES:
        report(shape, "none", budget)
    report(SHAPES[1], "tanh", budget)


if __name__ == "__main__":
    main()
