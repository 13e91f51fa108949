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
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from _native import Float32, native_sets, print_machine, print_table, race, refuse_wrong
from assay_gelu.reference import reference

PEER = "torch, out="
SHAPES = ((2048,), (1500, 1536), (4096, 4096))
TOLERANCE = 2e-6


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
        refuse_wrong(name, errors[name] if np.isfinite(out).all() else np.nan, TOLERANCE, shape)
    times = race(runners, budget)
    print_table(f"{shape}, approximate={approximate!r}", times, PEER, errors, "us")


def main() -> None:
    """Run the race for each shape and form."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--budget", type=float, default=20.0, help="seconds of measuring for each table")
    budget = parser.parse_args().budget
    torch.set_num_threads(1)
    print_machine(f"torch {importlib.metadata.version('torch')}", PEER)
    for shape in SHAPES:
        report(shape, "none", budget)
    report(SHAPES[1], "tanh", budget)


if __name__ == "__main__":
    main()
