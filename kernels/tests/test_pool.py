"""Threads: the same results whatever their number, from any thread, and in the child of a fork."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray


def noise(samples: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(samples).astype(np.float32)


@pytest.mark.parametrize("threads", [2, 3, 7, 64])
def test_results_do_not_depend_on_threads(native: ModuleType, threads: int) -> None:
    """Any number of threads gives the same bits."""
    audio = noise(16_000 * 7 + 123)
    frames = noise(400 * 700).reshape(700, 400)

    np.testing.assert_array_equal(native.log_mel(audio, threads=threads), native.log_mel(audio))
    np.testing.assert_array_equal(
        native.log_mel_frames(frames, threads=threads), native.log_mel_frames(frames)
    )


def test_opened_function_is_the_function(native: ModuleType) -> None:
    """An opened function has its number of threads settled, and takes the same arguments otherwise."""
    audio = noise(16_000 * 4)
    opened = native.open_log_mel(2)
    out = np.empty((128, 400), np.float32)

    assert opened(audio, n_mels=128, center=True, out=out) is out
    np.testing.assert_array_equal(out, native.log_mel(audio, n_mels=128))
    with pytest.raises(ValueError, match="threads: expected 1 or more"):
        native.open_log_mel(0)


def test_many_callers_at_once(native: ModuleType) -> None:
    """Callers on many threads share the pool, and each gets its own answer."""
    recordings = [noise(16_000 * (1 + seed % 5) + seed, seed) for seed in range(24)]
    expected = [native.log_mel(audio) for audio in recordings]

    with ThreadPoolExecutor(8) as callers:
        found = list(callers.map(lambda audio: native.log_mel(audio, threads=3), recordings))

    for features, right in zip(found, expected, strict=True):
        np.testing.assert_array_equal(features, right)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_child_of_a_fork(native: ModuleType) -> None:
    """A child of a process whose pool is running computes with threads of its own."""
    audio = noise(16_000 * 4)
    expected = native.log_mel(audio, threads=3)
    stop = threading.Event()

    def keep_busy() -> None:
        while not stop.is_set():
            native.log_mel(audio, threads=3)

    busy = threading.Thread(target=keep_busy)
    busy.start()
    try:
        for _ in range(5):
            child = os.fork()
            if child == 0:
                right = np.array_equal(native.log_mel(audio, threads=3), expected)
                os._exit(0 if right else 1)
            assert wait_for(child, seconds=30) == 0
    finally:
        stop.set()
        busy.join()


def wait_for(child: int, seconds: float) -> int:
    """The exit code of a child; it is killed, and the test fails, if it takes longer."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    pytest.fail(f"the child hung for {seconds} s")


def test_lets_go_of_the_gil(native: ModuleType) -> None:
    """Python runs on other threads while a kernel does."""
    audio = noise(16_000 * 200)
    out = np.empty((80, 20_000), np.float32)
    running = threading.Event()
    done = threading.Event()

    def call() -> None:
        running.set()
        native.log_mel(audio, out=out)
        done.set()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)  # a thread that holds on to the GIL now does so to its end
    try:
        caller = threading.Thread(target=call)
        caller.start()
        running.wait()
        ticks = 0
        while not done.is_set():
            ticks += 1
            time.sleep(0)
        caller.join()
    finally:
        sys.setswitchinterval(interval)
    assert ticks > 0


def test_idle_threads_use_no_time(native: ModuleType) -> None:
    """Between calls the pool costs nothing."""
    native.log_mel(noise(16_000 * 10), threads=4)
    time.sleep(0.05)
    before = time.process_time()

    time.sleep(0.5)

    assert time.process_time() - before < 0.05
