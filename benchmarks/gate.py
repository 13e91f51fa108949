"""How strong the gate is: every kernel in tests/mutants, proved with many seeds.

    python benchmarks/gate.py [--seeds 20] [--first 0] [OP ...]

A line for each kernel: whether all verdicts were right, how many proofs rejected it, and what they said most.
Exit 1 unless every wrong kernel was rejected every time and no right one ever.
"""

from __future__ import annotations

import argparse
import runpy
import sys
import time
import warnings
from functools import partial
from pathlib import Path

from assay.registry import discover
from assay.testing import Specimens, gate_strength

MUTANTS = Path(__file__).parents[1] / "tests" / "mutants"


def specimens(op: str) -> Specimens:
    """The kernels of an operation, made anew."""
    made: Specimens = runpy.run_path(str(MUTANTS / f"{op}.py"))["SPECIMENS"]
    return made


def main() -> int:
    """Print the table of each operation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("op", nargs="*", default=["mel", "gelu", "attention"])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")  # kernels may warn
    operations = discover().operations
    sound = True
    for op in asked.op:
        start = time.perf_counter()
        seeds = range(asked.first, asked.first + asked.seeds)
        strength = gate_strength(operations[op], partial(specimens, op), seeds=seeds)
        print(strength)
        print(f"{asked.seeds} seeds, {time.perf_counter() - start:.0f} s\n", flush=True)
        sound &= strength.sound
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
