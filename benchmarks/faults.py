"""What faults cost: an exception, a hang, a deadline that is kept, and threads side by side.

    python benchmarks/faults.py [--rounds 200]

Kernels sleep or multiply a few numbers: what is measured is Assay's part. The machine's own share in a
hop to another thread is measured beside it, as a ping-pong of two threads.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "core" / "tests"))

from toys import Kernel, offer, raising, row, runtime

NEVER = {"failures": 10**9}
"""Nobody is taken out, so that every call meets the fault."""


def times(call: Callable[[], Any], rounds: int) -> list[float]:
    """Seconds of each call."""
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return taken


def say(what: str, seconds: float, limit: float, unit: str = "us") -> None:
    """One line with its verdict."""
    scale = {"us": 1e6, "ms": 1e3}[unit]
    verdict = "within" if seconds <= limit else "ABOVE"
    print(f"{what:<66}{seconds * scale:9.1f} {unit}, {verdict} {limit * scale:.0f}")


def exception(rounds: int) -> float:
    """From the exception to the next plan's answer, beyond the next plan's own time."""
    first = Kernel()
    with runtime(offer("first", first, 60), offer("second", Kernel()), fallback=NEVER) as rt:
        op, second, x = rt.op("scale"), rt.op("scale", require="second"), row()
        second(x), op(x)
        first.act = raising(RuntimeError("broken"))
        pairs = zip(times(lambda: op(x), rounds), times(lambda: second(x), rounds), strict=True)
        return statistics.median(a - b for a, b in pairs)


def hang(rounds: int, deadline_s: float) -> float:
    """From the deadline of a hung kernel to the next plan's answer."""
    first = Kernel()
    fallback = {**NEVER, "deadline_s": deadline_s, "hung_threads": 10**6}
    with runtime(offer("first", first, 60), offer("second", Kernel()), fallback=fallback) as rt:
        op, x = rt.op("scale"), row()
        op(x)
        first.act = lambda x: time.sleep(3 * deadline_s)
        return statistics.median(times(lambda: op(x), rounds)) - deadline_s


def hop(rounds: int, size: int) -> float:
    """What a deadline that is kept costs: a hop to another thread and back, and private copies."""
    with runtime(offer("only", Kernel())) as rt:
        plain, bounded, x = rt.op("scale"), rt.op("scale", deadline_s=60), np.ones(size, "f")
        plain(x), bounded(x)
        pairs = zip(times(lambda: bounded(x), rounds), times(lambda: plain(x), rounds), strict=True)
        return statistics.median(a - b for a, b in pairs)


def ping_pong(rounds: int) -> float:
    """To another thread and back, by two locks: what the machine itself takes."""
    there, back = threading.Lock(), threading.Lock()
    there.acquire(), back.acquire()

    def other() -> None:
        while True:
            there.acquire()
            back.release()

    threading.Thread(target=other, daemon=True).start()

    def hop() -> None:
        there.release()
        back.acquire()

    return statistics.median(times(hop, rounds))


def side_by_side(threads: int, seconds: float) -> float:
    """Threads that call kernels which let go of the GIL, until all are done."""
    kernel = Kernel()
    with runtime(offer("only", kernel)) as rt, ThreadPoolExecutor(threads) as pool:
        op = rt.op("scale")
        list(pool.map(op, [row()] * threads))
        kernel.act = lambda x: time.sleep(seconds)
        return min(times(lambda: list(pool.map(op, [row()] * threads)), 5))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200)
    rounds = parser.parse_args().rounds
    logging.getLogger("assay").setLevel(logging.CRITICAL)
    say("exception to the next plan's answer, beyond its own time", exception(rounds), 100e-6)
    say("hang: beyond a deadline of 50 ms", hang(10, 0.05), 0.05, "ms")
    say("8 threads in kernels that sleep 100 ms, until all are done", side_by_side(8, 0.1), 0.11, "ms")
    for size in (8, 1_000_000):
        print(f"{f'a deadline that is kept, {size} floats: the hop and the copies':<66}", end="")
        print(f"{hop(rounds, size) * 1e6:9.1f} us")
    print(f"{'two threads in ping-pong, for comparison':<66}{ping_pong(rounds) * 1e6:9.1f} us")


if __name__ == "__main__":
    main()
