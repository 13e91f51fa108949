"""What a start costs: ``Runtime()`` with every operation, with an empty ledger and with a full one.

    python benchmarks/starts.py [--rounds 5]

Each start is a process of its own; its imports are not counted. Cold, everything installed is proved, the
worker processes included; warm, the certificates are there.
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

COLD_S, WARM_S = 5.0, 0.05

START = """
import json, sys, time
import assay
assay.Runtime  # the names are loaded
begin = time.perf_counter()
with assay.Runtime({"proof": {"ledger": sys.argv[1]}}) as runtime:
    taken = time.perf_counter() - begin
    decisions = [runtime.explain(op) for op in runtime.registry.operations]
    certified = sum(c.certificate is not None for decision in decisions for c in decision.candidates)
    print(json.dumps([taken, certified, {decision.op: decision.chosen for decision in decisions}]))
"""


def start(ledger: Path) -> tuple[float, int, dict[str, str]]:
    """Seconds, how many are certified, and who serves."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ASSAY_")}
    environment["XDG_CONFIG_HOME"] = str(ledger)  # no configuration of the user's
    command = [sys.executable, "-c", START, str(ledger)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    taken, certified, chosen = json.loads(done.stdout)
    return taken, certified, chosen


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    cold, warm, chosen = [], [], set()
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            for taken in (cold, warm, warm, warm):
                seconds, certified, who = start(Path(folder) / "ledger")
                taken.append(seconds)
                chosen.add(json.dumps(who))
    print(f"{certified} implementations proved; who serves: {' or '.join(sorted(chosen))}")
    within = True
    for name, taken, limit in (("empty ledger", cold, COLD_S), ("full ledger", warm, WARM_S)):
        median = statistics.median(taken)
        within &= median <= limit
        verdict = "within" if median <= limit else "ABOVE"
        print(f"{name}: {median:.3f} s ({min(taken):.3f} to {max(taken):.3f}), {verdict} {limit:g} s")
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
