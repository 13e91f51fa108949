"""What a start costs: importing Assay, and a thousand implementations that a cheap test rejects.

    python benchmarks/startup.py [--rounds 15]

Importing is measured in fresh processes, interleaved, against importing what Assay stands on alone.
The implementations ask for a CPU feature, a package, a device or a driver that is not there.
"""

from __future__ import annotations

import argparse
import gc
import logging
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "core" / "tests"))

import assay
from toys import Kernel, offer, runtime

FOUNDATION = "numpy, pydantic, pluggy, structlog"
RATIO, GROWTH_MS = 1.25, 100.0
REJECTED = 1000

CODE = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"


def importing(modules: str) -> float:
    """Milliseconds, in a process of its own."""
    command = [sys.executable, "-c", CODE.format(modules)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) * 1e3


def implementations(count: int) -> list[assay.Implementation]:
    """So many that a cheap test rejects."""
    wanting = [
        assay.Requires(features=frozenset({"no-such-feature"})),
        assay.Requires(packages=("no-such-package>=2",)),
        assay.Requires(device="no-such-device"),
        assay.Requires(driver=">=99"),
    ]
    return [
        assay.Implementation(
            op="scale",
            name=f"rejected-{n}",
            priority=50,
            kernel="no_such_module:kernel",
            capabilities=assay.Capabilities(requires=wanting[n % len(wanting)]),
        )
        for n in range(count)
    ]


def negotiating(count: int) -> float:
    """Milliseconds until a runtime with one sound implementation, and so many others, is open."""
    offers = [offer("sound", Kernel()), *implementations(count)]
    gc.collect()
    start = time.perf_counter()
    rt = runtime(*offers)
    taken = (time.perf_counter() - start) * 1e3
    assert len(rt.explain("scale").candidates) == count + 1
    rt.close()
    return taken


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    logging.getLogger("assay").setLevel(logging.CRITICAL)
    pairs = [(importing("assay"), importing(FOUNDATION)) for _ in range(rounds)]
    ratio = statistics.median(a / b for a, b in pairs)
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    verdict = "within" if ratio <= RATIO else "ABOVE"
    print(f"import assay {ours:.0f} ms, {FOUNDATION} {theirs:.0f} ms: {ratio:.2f} times, {verdict} {RATIO}")
    counts = [0, REJECTED // 4, REJECTED // 2, REJECTED]
    negotiating(REJECTED)
    taken: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(rounds):
        for count in counts:
            taken[count].append(negotiating(count))
    bare = statistics.median(taken[0])
    for count in counts[1:]:
        grown = statistics.median(taken[count]) - bare
        print(f"{count:5d} rejected implementations: + {grown:.1f} ms, {grown / count * 1e3:.0f} us each")
    print(f"{'within' if grown <= GROWTH_MS else 'ABOVE'} {GROWTH_MS:.0f} ms")


if __name__ == "__main__":
    main()
