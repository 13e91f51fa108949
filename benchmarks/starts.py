"""What a start costs: ``Runtime()`` with every operation, with an empty ledger and with a full one.

    python benchmarks/starts.py [--rounds 5]

Each start is a process of its own; importing assay is not counted. Cold, everything installed is proved, the
worker processes included; warm, the certificates are there. Python's caches of compiled modules are used.
The last figure leaves out importing the plugins too.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

COLD, WARM, IMPORTED = "empty ledger", "full ledger", "full ledger, plugins imported"
COLD_S, WARM_S = 5.0, 0.05

START = """
import json, sys, time
from assay import Runtime
if sys.argv[2] == "imported":
    from assay.registry import discover
    discover()
begin = time.perf_counter()
with Runtime({"proof": {"ledger": sys.argv[1]}}) as runtime:
    taken = time.perf_counter() - begin
    decisions = [runtime.explain(op) for op in runtime.registry.operations]
    certified = sum(c.certificate is not None for decision in decisions for c in decision.candidates)
    print(json.dumps([taken, certified, {decision.op: decision.chosen for decision in decisions}]))
"""


def start(ledger: Path, imported: str) -> tuple[float, int, dict[str, str]]:
    """Seconds, how many are certified, and who serves."""
    foreign = ("ASSAY_", "PYTHON")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    environment["XDG_CONFIG_HOME"] = str(ledger)  # no configuration of the user's
    command = [sys.executable, "-c", START, str(ledger), imported]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    taken, certified, chosen = json.loads(done.stdout)
    return taken, certified, chosen


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    figures: dict[str, list[float]] = {COLD: [], WARM: [], IMPORTED: []}
    chosen = set()
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            for name in [COLD, *[WARM, IMPORTED] * 3]:
                seconds, certified, who = start(Path(folder) / "ledger", "imported" * (name == IMPORTED))
                figures[name].append(seconds)
                chosen.add(json.dumps(who))
    print(f"{certified} implementations proved; who serves: {' or '.join(sorted(chosen))}")
    within = True
    for name, taken in figures.items():
        limit = COLD_S if name == COLD else WARM_S
        median = statistics.median(taken)
        within &= median <= limit
        verdict = "within" if median <= limit else "ABOVE"
        print(f"{name}: {median:.3f} s ({min(taken):.3f} to {max(taken):.3f}), {verdict} {limit:g} s")
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
