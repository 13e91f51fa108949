"""What sharing blocks is worth: ``submit`` against calling, with an item kernel of known cost.

    python benchmarks/batching.py [--seconds 1] [--rounds 5] [--preset balanced]

The kernel sleeps 100 us for a call and 1 us for each item, and takes one call at a time, as a device does.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import logging
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "core" / "tests"))

from toys import Kernel, offer, row, runtime

CALL_S, ITEM_S = 100e-6, 1e-6
CALLERS = 8
GAIN, LONE_US = 3.0, 40.0
SET_TIMER_SLACK = 29


def open_device(device: Any, plan: Any) -> Callable[..., Any]:
    """The kernel; a sleep of this thread is as short as Linux can make it."""

    def scale(x: Any, *, factor: float, out: Any) -> Any:
        time.sleep(CALL_S + ITEM_S * len(x))
        return np.multiply(x, factor, out=out)

    return scale


def per_second(call: Callable[[], Any], callers: int, seconds: float) -> float:
    """Requests answered by so many callers, each of whom waits for an answer before it asks again."""
    counts = [0] * callers
    end = time.perf_counter() + seconds

    def ask(caller: int) -> None:
        while time.perf_counter() < end:
            call()
            counts[caller] += 1

    threads = [threading.Thread(target=ask, args=(caller,)) for caller in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds


def median_us(call: Callable[[], Any], calls: int = 300) -> float:
    """Of one call."""
    taken = []
    for _ in range(calls):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken) * 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--preset", default="balanced")
    options = parser.parse_args()
    logging.getLogger("assay").setLevel(logging.CRITICAL)
    with contextlib.suppress(AttributeError, OSError):  # threads inherit it
        ctypes.CDLL(None).prctl(SET_TIMER_SLACK, 1, 0, 0, 0)
    device = offer("device", open_device, 60, form="items", writes_out=True)
    device = device.model_copy(update={"kernel": None, "opener": open_device})
    ops = {"scale": {"batch_size": 64}}
    with runtime(device, offer("plain", Kernel()), preset=options.preset, ops=ops) as rt:
        op, x = rt.op("scale"), row(1.0)

        def ask() -> Any:
            return op.submit(x).result()

        op(x), ask()
        gains, lone = [], []
        for _ in range(options.rounds):
            lone.append(median_us(ask) - median_us(lambda: op(x)))
            alone = per_second(lambda: op(x), CALLERS, options.seconds)
            sizes = rt.explain("scale")["device"].counters.batch_sizes
            sizes.clear()
            shared = per_second(ask, CALLERS, options.seconds)
            gains.append(shared / alone)
            mean = sum(size * count for size, count in sizes.items()) / sum(sizes.values())
            print(f"called {alone:7.0f} a second, submitted {shared:7.0f}, {mean:.1f} requests a block")
    gain, cost = statistics.median(gains), statistics.median(lone)
    print(
        f"{CALLERS} callers: submit answers {gain:.2f} times as many, "
        f"{'within' if gain >= GAIN else 'BELOW'} {GAIN}"
    )
    print(f"a lone caller pays {cost:.0f} us, {'within' if cost <= LONE_US else 'ABOVE'} {LONE_US:.0f}")


if __name__ == "__main__":
    main()
