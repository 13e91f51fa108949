"""Native log-mel against asrfront: ratios of medians of one interleaved run.

    python benchmarks/native_mel.py [--seconds 1 30 300] [--budget 20]

asrfront is called beneath its public function, where it checks nothing and takes the memory of the result,
as the native kernels do; its public function is shown too. Every output is first compared with the float64
reference. Rounds in which a call did not get its cores are left out of everything.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from _native import Float32, Seconds, native_sets, print_machine, print_table, refuse_wrong
from asrfront import _ext, whisper
from assay_mel import MEL

Contestant = Callable[[Float32, Float32], Any]

PEER = "asrfront"
TOLERANCE = 6e-5
SHARE = 0.95
"""Of its cores: a round counts if every call had as much. Calls below a millisecond count as they are."""


def speech_like(seconds: int) -> Float32:
    """Noise in syllables, with pauses of which the floor hides most."""
    rng = np.random.default_rng(1)
    t = np.arange(16_000 * seconds) / 16_000
    level = 0.1 * np.clip(np.sin(2 * np.pi * 1.5 * t), 0, None) ** 2 + 1e-6
    audio: Float32 = (level * rng.standard_normal(t.size)).astype(np.float32)
    return audio


def native(name: str, threads: int = 1) -> Contestant:
    """The log-mel compiled for one instruction set."""
    kernel = importlib.import_module(f"assay_kernels._{name}").open_log_mel(threads)

    def run(audio: Float32, out: Float32) -> Any:
        return kernel(audio, out=out)

    return run


def contestants() -> dict[str, Contestant]:
    """By name, what fills ``out`` or returns the features, on one thread."""
    frontend = _ext.WhisperFrontend(n_mels=80, pad_or_trim=False, n_threads=1)
    return {
        PEER: lambda audio, out: frontend.log_mel(audio, out),
        f"{PEER}, public": lambda audio, out: whisper.log_mel(audio, pad_or_trim=False),
        **{f"native-{name}": native(name) for name in native_sets()},
    }


def race(
    runners: dict[str, Contestant], audio: Float32, outs: dict[str, Float32], budget: float, threads: int = 1
) -> dict[str, Seconds]:
    """Seconds of each contestant, round by round. The last uses so many threads, the others one."""
    rounds: list[list[float]] = []
    start = time.perf_counter()
    while time.perf_counter() < start + budget or len(rounds) < 9:
        seconds: list[float] = []
        fair = True
        for name, run in runners.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run(audio, outs[name])
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            cores = threads if len(seconds) == len(runners) - 1 else 1
            fair = fair and (wall < 1e-3 or cpu >= SHARE * cores * wall)
            seconds.append(wall)
        if fair:
            rounds.append(seconds)
        elif time.perf_counter() > start + 10 * budget:
            raise SystemExit("this machine is too busy: calls did not get their cores")
    return dict(zip(runners, np.array(rounds).T, strict=True))


def report(seconds: int, budget: float) -> None:
    """Print the table of one length."""
    audio = speech_like(seconds)
    expected = MEL.reference(audio, n_mels=80, center=True)
    runners = contestants()
    outs = {name: np.full(expected.shape, np.nan, np.float32) for name in runners}
    errors = {}
    for name, run in runners.items():
        returned = run(audio, outs[name])
        features = outs[name] if returned is None else returned
        errors[name] = np.abs(features - expected).max()
        refuse_wrong(name, errors[name], TOLERANCE, f"{seconds} s")
    print_table(f"{seconds} s of audio", race(runners, audio, outs, budget), PEER, errors)


def report_threads(seconds: int, budget: float) -> None:
    """Print what a second thread gains."""
    audio = speech_like(seconds)
    name = native_sets()[-1]
    runners = {"one": native(name), "two": native(name, threads=2)}
    outs = {key: np.empty((80, 100 * seconds), np.float32) for key in runners}
    times = race(runners, audio, outs, budget, threads=2)
    ratio = np.median(times["one"]) / np.median(times["two"])
    low, high = np.percentile(times["one"] / times["two"], [25, 75])
    print(
        f"\nnative-{name}, {seconds} s: two threads are {ratio:.2f} times one "
        f"(quartiles {low:.2f} to {high:.2f}, {len(times['one'])} rounds)"
    )


def main() -> None:
    """Run the race for each length that is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=int, nargs="+", default=[1, 30, 300], help="lengths of audio")
    parser.add_argument("--budget", type=float, default=20.0, help="seconds of measuring for each table")
    arguments = parser.parse_args()
    print_machine(f"{PEER} {importlib.metadata.version('asrfront')}", PEER)
    for seconds in arguments.seconds:
        report(seconds, arguments.budget)
    report_threads(max(arguments.seconds), arguments.budget)


if __name__ == "__main__":
    main()
