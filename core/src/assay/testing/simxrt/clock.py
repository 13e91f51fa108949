"""The simulated machine's time: a virtual clock, and a real one that stands still for host functions."""

import ctypes
import math
import threading
import time
from collections.abc import Callable
from typing import Protocol

# A sleep of 60 us takes about 130: what is left below this is spun away.
_SPIN_S = 300e-6


class Clock(Protocol):
    """Seconds since some start, never going back.

    ``freeze`` and ``thaw``, which nest, enclose a host function that stands for a device kernel: its running
    time belongs to nobody, since the model says how long the device takes.
    """

    def now(self) -> float:
        """Return the time in seconds."""

    def wait_until(self, deadline: float) -> None:
        """Return when ``now() >= deadline``."""

    def freeze(self) -> None:
        """Stop the clock."""

    def thaw(self) -> None:
        """Let it go on from where it stopped."""


class VirtualClock:
    """Time that passes only in waits, so that tests are exact and cost nothing. The default."""

    def __init__(self) -> None:
        self._now = 0.0
        self._lock = threading.Lock()

    def now(self) -> float:
        """Return the time in seconds."""
        return self._now

    def wait_until(self, deadline: float) -> None:
        """Jump to ``deadline`` unless it has passed."""
        with self._lock:
            if deadline > self._now:
                self._now = deadline

    def advance(self, seconds: float) -> None:
        """Let time pass with nobody waiting, as when a device stands idle."""
        with self._lock:
            self._now += seconds

    def freeze(self) -> None:
        """Do nothing: this clock never runs by itself."""

    def thaw(self) -> None:
        """Do nothing."""


class SpinClock:
    """Real time, less the time spent in host functions.

    Waits sleep while far from the deadline and spin when near it, both **with the GIL held**, as pyxrt's do:
    a driver that blocks in ``wait()`` blocks every other Python thread here too. Measure with ``now()``:
    ``time.perf_counter`` also counts the numpy code that stands for the device.
    """

    def __init__(self) -> None:
        self._behind = 0.0
        self._frozen_at = math.nan
        self._depth = 0

    def now(self) -> float:
        """Return the time in seconds."""
        return self._frozen_at if self._depth else time.perf_counter() - self._behind

    def wait_until(self, deadline: float) -> None:
        """Sleep, then spin, until ``deadline``."""
        left = deadline - self.now()
        if left > _SPIN_S:
            sleep_with_gil(left - _SPIN_S)
        while self.now() < deadline:
            pass

    def freeze(self) -> None:
        """Stop the clock."""
        self._frozen_at = self.now()
        self._depth += 1

    def thaw(self) -> None:
        """Let it go on from where it stopped."""
        self._behind = time.perf_counter() - self._frozen_at
        self._depth -= 1


def sleep_with_gil(seconds: float) -> None:
    """Sleep about ``seconds``, for ever if infinite, without letting go of the GIL."""
    end = time.perf_counter() + seconds
    while (left := end - time.perf_counter()) > 0:
        if _USLEEP is not None:
            _USLEEP(int(min(left, 0.5) * 1e6))  # POSIX promises usleep up to a second only


_USLEEP: Callable[[int], int] | None
try:
    _USLEEP = ctypes.PyDLL(None).usleep  # PyDLL, unlike CDLL, keeps the GIL during the call
except (AttributeError, OSError, TypeError):  # no usleep here: spinning alone is right too
    _USLEEP = None
