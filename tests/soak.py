"""Chaos: many threads, three implementations of which two fail at random, and nothing may be lost.

    python tests/soak.py                      200,000 calls, under two minutes
    python tests/soak.py --minutes 20         the long one, as in `make soak`

Two operations are served: one is called, the other is submitted to. Kernels raise, return NaN, hang or return
the wrong shape in 5 % of their calls. While it goes on, the configuration is reloaded again and again, with
and without quarantine. At the end every call must have been answered, rightly and once; memory must be flat;
and the time of a call, hangs apart, must stay near that of quiet times.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import logging
import math
import os
import random
import resource
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "core" / "tests"))

import assay
from toys import ItemKernel, Kernel, offer, operation, plugin

THREADS = 16
SUBMITTING = 4
"""How many of them submit; the others call."""

RATE = 0.05
KINDS = {"raise": 0.40, "nan": 0.30, "shape": 0.295, "hang": 0.005}
DEADLINE_S = 1.0
HANG_S = 1.5
SLOWER = 3.0
"""How many times as long as in quiet times a call may take (the 99th percentile)."""

FAULTY = 0.02
"""The least share of calls that must have met a fault, or the run has shown nothing."""

STEP = math.log(1.02)
GROWTH_MB = 8.0
"""How much more memory the last quarter of a run may take than its first half, while threads still start."""

SLICE = 10_000
"""Calls between two reloads."""


class Chaos:
    """What befalls kernels: shared by all of them. Only requests meet it, probes do not.

    All requests have a deadline, so their kernels run in the threads that are kept for that.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.rate = 0.0
        self.done: Counter[str] = Counter()

    def __call__(self, x: Any) -> Any:
        if self._random.random() >= self.rate or threading.current_thread().name != "assay-lane":
            return None
        (kind,) = self._random.choices(list(KINDS), list(KINDS.values()))
        self.done[kind] += 1
        if kind == "raise":
            raise RuntimeError("chaos")
        if kind == "hang":
            time.sleep(HANG_S)
            return None
        return np.full_like(x, np.nan) if kind == "nan" else np.zeros(len(x) + 1, x.dtype)


class Soak:
    """One run over one runtime."""

    def __init__(self, seed: int) -> None:
        self.chaos = Chaos(seed)
        kernels = [Kernel(), ItemKernel(), Kernel(), ItemKernel()]
        for kernel in kernels:
            kernel.act = self.chaos
            kernel.blocks = _Nothing()  # type: ignore[attr-defined]  # what the toy notes would be a leak here
        items = {"form": "items", "writes_out": True}
        called = plugin(
            offer("whole", kernels[0], 60),
            offer("items", kernels[1], 40, **items),
            offer("sound", Kernel(), 0),
        )
        submitted = plugin(
            offer("items", kernels[3], 60, op="shared", **items),
            offer("whole", kernels[2], 40, op="shared"),
            offer("sound", Kernel(), 0, op="shared"),
            op=operation(name="shared"),
        )
        self.rt = assay.Runtime(self.config(strict=False), plugins=[called, submitted])
        self.wrong: list[str] = []
        self.answered = 0
        self.latencies: Counter[int] = Counter()
        """Calls by the logarithm of their time, in steps of 2 %."""
        self.hung = 0
        self._lock = threading.Lock()

    def config(self, *, strict: bool, prefer: str = "whole") -> dict[str, Any]:
        """With quarantine, or with faults that nobody is taken out for."""
        limit = {"failures": 3 if strict else 10**9, "cooldown_s": 0.005}
        return {
            "plugins": {"autoload": False},
            "proof": {"mode": "off"},
            "preset": "latency" if strict else "balanced",
            "ops": {"scale": {"batch_size": 1024, "prefer": [prefer]}, "shared": {"batch_size": 1024}},
            "fallback": {"deadline_s": DEADLINE_S, **limit},
        }

    def go(self, calls: int) -> None:
        """Have every thread make its share of calls."""
        threads = [
            threading.Thread(target=self._work, args=(number, calls // THREADS)) for number in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _work(self, number: int, calls: int) -> None:
        draw = random.Random(f"{number} {self.answered}")
        call, shared = self.rt.op("scale"), self.rt.op("shared")
        took: Counter[int] = Counter()
        hung = 0
        for n in range(calls):
            x = np.full(draw.choice((3, 8, 8, 8, 40, 5000)), number, np.float32)
            x[0], x[1] = n, draw.randrange(1 << 20)
            factor = draw.choice((2, 2, 3))
            start = time.perf_counter()
            try:
                if number < SUBMITTING:
                    result = shared.submit(x, factor=factor).result(60)
                elif n % 7 == 0:
                    result = call(x, factor=factor, out=np.empty_like(x))
                else:
                    result = call(x, factor=factor) if factor == 3 else call(x)
                if not np.array_equal(result, x.astype(np.float64) * factor):
                    self.wrong.append(f"thread {number}, call {n}: a wrong answer")
            except BaseException as error:  # noqa: BLE001  # whatever it is, a call was lost
                self.wrong.append(f"thread {number}, call {n}: {type(error).__name__}: {error}")
            seconds = time.perf_counter() - start
            if seconds >= DEADLINE_S:
                hung += 1
            elif number >= SUBMITTING:
                took[round(math.log(seconds) / STEP)] += 1
        with self._lock:
            self.answered += calls
            self.latencies.update(took)
            self.hung += hung

    def percentiles(self) -> tuple[float, float]:
        """The median and the 99th percentile of the calls since the last time, in milliseconds."""
        steps = sorted(self.latencies.elements())
        self.latencies.clear()
        return tuple(1e3 * math.exp(STEP * steps[int(part * len(steps))]) for part in (0.5, 0.99))  # type: ignore[return-value]

    def quiet(self) -> tuple[float, float]:
        """The same without faults, of whichever implementation is slower."""
        rate, self.chaos.rate = self.chaos.rate, 0.0
        times = []
        for prefer in ("items", "whole"):
            self.rt.reload(self.config(strict=False, prefer=prefer))
            self.go(SLICE // 2)
            times.append(self.percentiles())
        self.chaos.rate = rate
        return max(times, key=lambda both: both[1])

    def counted(self) -> int:
        """How many calls the runtime says it has served."""
        return sum(op["calls"] for op in self.rt.metrics()["ops"].values())


class _Nothing(list[Any]):
    def append(self, thing: Any) -> None:
        pass


def memory_mb() -> float:
    """What this process holds; where the system does not say, the most that it has held.

    What was freed is given back first, as far as the C library can: that is not held.
    """
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main() -> int:
    """Run it, say how it went, and return 0 if nothing was lost."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=200_000)
    parser.add_argument("--minutes", type=float, default=0.0, help="go on for so long, whatever --calls says")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    logging.getLogger("assay").setLevel(logging.CRITICAL)
    soak, begun = Soak(options.seed), time.monotonic()

    soak.go(SLICE)  # routes are found, threads started, memory taken
    soak.percentiles()
    quiet = soak.quiet()
    soak.chaos.rate = RATE
    soak.go(SLICE)
    soak.percentiles()
    memory = [memory_mb()]
    turn = 0
    while soak.answered < options.calls or time.monotonic() - begun < 60 * options.minutes:
        turn += 1
        reloading = threading.Timer(0.05, soak.rt.reload, [soak.config(strict=turn % 8 == 4)])
        reloading.start()
        soak.go(min(SLICE, max(THREADS, options.calls - soak.answered)) if not options.minutes else SLICE)
        reloading.join()
        memory.append(memory_mb())
        if turn % 20 == 0:
            print(
                f"{time.monotonic() - begun:6.0f} s, {soak.answered} answered, {memory[-1]:.1f} MB, "
                f"{threading.active_count()} threads",
                flush=True,
            )
    chaos = soak.percentiles()
    quiet = max(quiet, soak.quiet(), key=lambda both: both[1])  # the machine may have become slower

    soak.rt.summary()
    counted, faults = soak.counted(), sum(soak.chaos.done.values())
    grown = max(memory[3 * turn // 4 :]) - max(memory[: turn // 2 + 1])
    limit = SLOWER * quiet[1]
    print(f"answered {soak.answered} in {time.monotonic() - begun:.0f} s, {len(soak.wrong)} wrong or lost")
    print(f"counted {counted}; faults {dict(soak.chaos.done)}; met a hang {soak.hung}; reloads {turn}")
    print(f"median {quiet[0]:.2f} ms quiet, {chaos[0]:.2f} ms in chaos")
    print(f"p99 {quiet[1]:.2f} ms quiet, {chaos[1]:.2f} ms in chaos (limit {limit:.2f})")
    print(f"memory {memory[0]:.1f} MB, grown by {grown:.1f} MB (limit {GROWTH_MB:.0f})")
    failures = [
        *soak.wrong[:10],
        *([f"{counted} calls counted, {soak.answered} answered"] if counted != soak.answered else []),
        *([f"only {faults} faults"] if faults < FAULTY * soak.answered else []),
        *(["slower than it may be"] if chaos[1] > limit else []),
        *([f"memory grew by {grown:.1f} MB"] if grown > GROWTH_MB else []),
    ]
    soak.rt.close()
    for failure in failures:
        print(f"FAILED: {failure}")
    print(
        f"{'failed' if failures else 'passed'}: seed {options.seed}, {soak.answered} calls in "
        f"{time.monotonic() - begun:.0f} s, {faults} faults, {len(soak.wrong)} wrong or lost, memory grown "
        f"by {grown:.1f} MB, p99 {chaos[1] / quiet[1]:.2f} times the quiet one (limit {SLOWER:.0f})"
    )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
