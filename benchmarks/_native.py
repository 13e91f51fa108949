"""What the benchmarks of the native kernels have in common: who takes part, the race, and the table."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import archspec.cpu.detect
import numpy as np
from assay_kernels.plugin import FEATURES
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Seconds = NDArray[np.float64]
Run = Callable[[], Any]

AT_LEAST = 1e-3
"""Seconds of one measurement: shorter calls are repeated."""

UNITS = {"ms": 1e3, "us": 1e6}


def native_sets() -> list[str]:
    """The instruction sets that this CPU has, narrowest first."""
    cpu = frozenset(archspec.cpu.detect.detected_info().features)
    return [name for name, features in FEATURES.items() if features <= cpu]


def print_machine(versions: str, peer: str) -> None:
    """Print the first line: the CPU, and what the kernels are held against."""
    print(f"{archspec.cpu.detect.brand_string()}; {versions}; speed: median of {peer} over own median")


def seconds_of(run: Run, repeats: int) -> float:
    """Of one call, on the calling thread's core."""
    start = time.thread_time()
    for _ in range(repeats):
        run()
    return (time.thread_time() - start) / repeats


def race(runners: Mapping[str, Run], budget: float) -> dict[str, Seconds]:
    """Seconds of each contestant, round by round."""
    repeats = {name: math.ceil(AT_LEAST / seconds_of(run, 3)) for name, run in runners.items()}
    rounds: list[list[float]] = []
    end = time.perf_counter() + budget
    while time.perf_counter() < end or len(rounds) < 9:
        rounds.append([seconds_of(run, repeats[name]) for name, run in runners.items()])
    return dict(zip(runners, np.array(rounds).T, strict=True))


def refuse_wrong(name: str, error: float, limit: float, what: Any) -> None:
    """End the program if a contestant's result is not the reference's; NaN is not, either."""
    if not error <= limit:
        raise SystemExit(f"{name} is wrong by {error:.1e} on {what}: there is nothing to compare")


def print_table(
    title: str, times: Mapping[str, Seconds], peer: str, errors: Mapping[str, float], unit: str = "ms"
) -> None:
    """Print medians, the fastest rounds, and the speed against the peer with its quartiles."""
    theirs, scale = times[peer], UNITS[unit]
    print(f"\n{title}, one thread, {len(theirs)} rounds")
    print(f"{'':20}{f'median {unit}':>12}{'fastest':>12}{'speed':>8}{'quartiles':>16}{'error':>10}")
    for name, own in times.items():
        low, high = np.percentile(theirs / own, [25, 75])
        print(
            f"{name:20}{np.median(own) * scale:12.4f}{own.min() * scale:12.4f}"
            f"{np.median(theirs) / np.median(own):7.2f}x{f'{low:.2f} to {high:.2f}':>16}{errors[name]:10.1e}"
        )
