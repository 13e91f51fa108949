"""What the stand-in for pyxrt costs by itself, and what its model of time says about batches.

    python benchmarks/npu_stand_in.py [--rounds 201]

First the cost of each call on a device that takes no time. Then frames of 400 int16 samples to 80 codes
through bare pyxrt calls, with 60 us per launch, 1 us per frame and 1 GB/s of copying: one by one, in batches,
and in batches with two runs in flight. Times are on the stand-in's spinning clock, which stops for the host
function that stands for the device; medians.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from assay.testing import simxrt

CALL_LIMIT_US = 10.0
BATCH_LIMITS = {100: 20.0, 1000: 30.0}
OVERLAP_LIMIT = 1.3


class Slot:
    """One run with its buffers."""

    def __init__(self, sim: simxrt.Simulator, folder: Path, frames: int) -> None:
        px = sim.module
        self.frames = frames
        self.to_device = px.xclBOSyncDirection.XCL_BO_SYNC_BO_TO_DEVICE
        self.from_device = px.xclBOSyncDirection.XCL_BO_SYNC_BO_FROM_DEVICE
        path = sim.write_xclbin(folder / f"{frames}.xclbin", [simxrt.KernelImage("sums", items=frames)])
        code = np.fromfile(sim.write_instructions(folder / "sums.bin", "sums"), np.uint32)
        device = px.device(0)
        kernel = px.kernel(px.hw_context(device, device.register_xclbin(px.xclbin(str(path)))), "MLIR_AIE")
        self.code = px.bo(device, code.nbytes, px.bo.cacheable, kernel.group_id(1))
        self.code.write(code, 0)
        self.code.sync(self.to_device)
        self.samples = px.bo(device, 800 * frames, px.bo.host_only, kernel.group_id(3))
        self.codes = px.bo(device, 80 * frames, px.bo.host_only, kernel.group_id(4))
        self.run = px.run(kernel)
        for index, value in enumerate((3, self.code, code.nbytes, self.samples, self.codes)):
            self.run.set_arg(index, value)

    def begin(self) -> None:
        """Copy a batch and launch."""
        self.samples.sync(self.to_device)
        self.run.start()

    def finish(self) -> None:
        """Wait and copy the result."""
        self.run.wait(1000)
        self.codes.sync(self.from_device)


def sums(samples: Any, codes: Any) -> None:
    """Stand for the device with something cheap."""
    codes[:] = samples.reshape(len(codes), -1)[:, 0]


def median_us(now: Callable[[], float], call: Callable[[], object], rounds: int) -> float:
    """The median duration of a call."""
    durations = []
    for _ in range(rounds):
        start = now()
        call()
        durations.append(now() - start)
    return statistics.median(durations) * 1e6


def overhead(folder: Path, rounds: int) -> bool:
    """Print what each call costs when the device costs nothing."""
    sim = simxrt.Simulator(clock="spin", timing=simxrt.FREE)
    sim.register("sums", sums)
    slot = Slot(sim, folder, 1)
    data = np.zeros(800, np.uint8)

    def start_and_wait() -> None:
        slot.run.start()
        slot.run.wait(1000)

    calls: dict[str, Callable[[], object]] = {
        "write 800 B": lambda: slot.samples.write(data, 0),
        "sync 800 B": lambda: slot.samples.sync(slot.to_device),
        "read 80 B": lambda: slot.codes.read(80, 0),
        "map": lambda: slot.codes.map(),
        "state": lambda: slot.run.state(),
        "start + wait, real time": start_and_wait,
    }
    print("cost of the stand-in itself, us")
    worst = 0.0
    for name, call in calls.items():
        cost = median_us(time.perf_counter, call, 20 * rounds)
        print(f"  {name:28}{cost:8.1f}")
        worst = worst if "start" in name else max(worst, cost)
    cost = median_us(sim.clock.now, start_and_wait, 20 * rounds)
    print(f"  {'start + wait, on its clock':28}{cost:8.1f}")
    return max(worst, cost) <= CALL_LIMIT_US


def one_after_another(sim: simxrt.Simulator, slot: Slot, rounds: int) -> float:
    """The median duration of a batch, in us per frame."""

    def call() -> None:
        slot.begin()
        slot.finish()

    return median_us(sim.clock.now, call, rounds) / slot.frames


def two_in_flight(sim: simxrt.Simulator, slots: tuple[Slot, Slot], rounds: int) -> float:
    """The median time from one batch's end to the next one's, in us per frame."""
    ends = []
    slots[0].begin()
    for turn in range(1, rounds):
        slots[turn % 2].begin()
        slots[(turn - 1) % 2].finish()
        ends.append(sim.clock.now())
    slots[(rounds - 1) % 2].finish()
    between = [late - early for early, late in itertools.pairwise(ends)]
    return statistics.median(between) * 1e6 / slots[0].frames


def batches(folder: Path, rounds: int) -> bool:
    """Print what batches and two runs in flight are worth."""
    sim = simxrt.Simulator(clock="spin", timing=simxrt.Timing())
    sim.register("sums", sums)
    alone = one_after_another(sim, Slot(sim, folder, 1), rounds)
    print(f"frames through the model, us per frame\n  {'one by one':28}{alone:8.2f}")
    good = True
    for frames, limit in BATCH_LIMITS.items():
        slots = Slot(sim, folder, frames), Slot(sim, folder, frames)
        batch = one_after_another(sim, slots[0], rounds)
        overlapped = two_in_flight(sim, slots, rounds)
        print(f"  {f'batches of {frames}':28}{batch:8.2f}{alone / batch:8.1f} times as fast")
        print(f"  {'  with two in flight':28}{overlapped:8.2f}{batch / overlapped:8.2f} times that")
        good &= alone / batch >= limit and batch / overlapped >= OVERLAP_LIMIT
    return good


def main() -> int:
    """Print the figures; 1 if one is worse than it should be."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=201)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        results = [overhead(Path(name), rounds), batches(Path(name), rounds)]
    return 0 if all(results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
