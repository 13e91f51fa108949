"""What batching frames is worth on one core: ``mel.frames`` at several batch sizes against ``mel.frame``.

    python benchmarks/mel_batches.py [--seconds 10] [--rounds 15] [--n-mels 80]

Two figures each: a whole request
through the runtime (cutting, checking, storing and scaling included), and the kernels' own functions on
frames that are already cut. Every answer is first compared with the float64 reference.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import ExitStack
from statistics import median
from typing import Any

import assay
import numpy as np
import threadpoolctl
from assay_mel import MEL, reference, signals
from assay_mel.backends import frame, frames
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
SIZES = (1, 10, 100, 1000)


def served(stack: ExitStack, name: str, batch_size: int) -> Callable[..., Any]:
    """The operation bound to one implementation at one batch size."""
    config = {
        "threads": 1,
        "proof": {"mode": "off"},
        "ops": {"mel": {"require": name, "batch_size": batch_size}},
    }
    return stack.enter_context(assay.Runtime(config, ops=["mel"])).op(MEL)


def single(cut: Float32, n_mels: int) -> None:
    """The single-frame kernel over every frame."""
    out = np.empty((1, n_mels), np.float32)
    for start in range(len(cut)):
        frame.mel(cut[start : start + 1], out=out, n_mels=n_mels, center=True)


def batched(cut: Float32, n_mels: int, size: int) -> None:
    """The batch kernel over every frame, ``size`` at a time."""
    for start in range(0, len(cut), size):
        frames.mel(cut[start : start + size], n_mels=n_mels, center=True)


def main() -> None:
    """Check, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--n-mels", type=int, default=80)
    arguments = parser.parse_args()
    threadpoolctl.threadpool_limits(1)

    n_mels = arguments.n_mels
    audio = signals.noise(np.random.default_rng(0), int(arguments.seconds * 16_000)).astype(np.float32)
    count = audio.size // 160
    items = MEL.items.split((audio,), {"n_mels": n_mels, "center": True}, item_shape=None, out=None)
    cut = np.empty((count, 400), np.float32)
    items.load(0, count, [cut])

    with ExitStack() as stack:
        requests = {"frame": served(stack, "frame", 1)}
        kernels: dict[str, Callable[[], None]] = {"frame": lambda: single(cut, n_mels)}
        for size in SIZES:
            requests[f"frames, {size}"] = served(stack, "frames", size)
            kernels[f"frames, {size}"] = lambda size=size: batched(cut, n_mels, size)

        expected = reference.mel(audio, n_mels=n_mels, center=True)
        for name, mel in requests.items():
            error = float(np.abs(mel(audio, n_mels=n_mels) - expected).max())
            assert error <= 5e-6, f"{name} is off by {error}"

        spent: dict[tuple[str, str], list[float]] = {}
        for _ in range(arguments.rounds):
            for name in requests:
                start = time.thread_time()  # what the call itself took, whatever else runs
                requests[name](audio, n_mels=n_mels)
                middle = time.thread_time()
                kernels[name]()
                end = time.thread_time()
                spent.setdefault(("request", name), []).append(middle - start)
                spent.setdefault(("kernel", name), []).append(end - middle)

    print(
        f"{count} frames, {n_mels} bands, one thread, median of {arguments.rounds} interleaved rounds; "
        "us per frame and speed-up over mel.frame"
    )
    print(f"  {'':<14} {'calls':>6} {'whole request':>20} {'kernel alone':>20}")
    for name in requests:
        size = int(name.partition(", ")[2] or 1)
        row = f"  mel.{name:<12} {-(-count // size):>4}"
        for what in ("request", "kernel"):
            own, base = spent[what, name], spent[what, "frame"]
            ratio = median(b / o for b, o in zip(base, own, strict=True))
            row += f" {median(own) / count * 1e6:>10.2f} {ratio:>7.1f} x"
        print(row)


if __name__ == "__main__":
    main()
