"""Whether a measured choice stays the same from start to start, and whether "auto" serves a slow one.

    python benchmarks/choices.py [--starts 10]

Every start has an empty ledger, so that all measurements are made anew. GELU and attention are chosen among
everything that is installed, and among all but the native kernels, where the libraries are close together.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections import Counter
from typing import Any

import assay

OPS = ("gelu", "attention")
SAME, VETO = 0.9, 1.5


def starts(count: int, select: str, deny: list[str]) -> dict[str, list[tuple[str, float]]]:
    """For each operation and start: who serves, and how far behind the fastest it is."""
    chosen: dict[str, list[tuple[str, float]]] = {op: [] for op in OPS}
    for _ in range(count):
        with tempfile.TemporaryDirectory() as ledger:
            config: dict[str, Any] = {"select": select, "proof": {"ledger": ledger}}
            config["ops"] = {op: {"deny": deny} for op in OPS}
            with assay.Runtime(config, ops=OPS) as runtime:
                for op in OPS:
                    decision = runtime.explain(op)
                    seconds = {c.id: c.seconds for c in decision.candidates if c.seconds is not None}
                    who = str(decision.chosen)
                    chosen[op].append((who, seconds[who] / min(seconds.values())))
    return chosen


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=10)
    count, good = parser.parse_args().starts, True
    logging.getLogger("assay").setLevel(logging.CRITICAL)
    for deny in ([], ["native-*"]):
        print("all that is installed:" if not deny else f"without {', '.join(deny)}:")
        for select in ("measured", "auto"):
            for op, chosen in starts(count, select, deny).items():
                (who, times), *_ = Counter(name for name, _ in chosen).most_common()
                slowest = max(slower for _, slower in chosen)
                good &= (times >= SAME * count or select == "auto") and slowest < VETO
                print(
                    f"  {select:<9} {op:<10} {who} in {times} of {count} starts; "
                    f"at most {slowest:.2f} times slower than the fastest"
                )
    print("within" if good else "ABOVE", f"the same in {SAME:.0%}, never {VETO} times slower")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
