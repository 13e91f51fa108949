"""A candidate that may serve: its kernel and the door to it, its failures, its quarantine."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from assay.contract.candidate import Candidate, State
from assay.contract.reasons import ReasonCode
from assay.negotiation.kernel import Kernel

Load = Callable[[Candidate], Kernel]

PATIENCE_S = 0.1
"""How often someone who waits for an opened kernel looks whether it is still the one that serves."""


class Retired(Exception):
    """The kernel was let go between the routing of a request and its call: route it anew."""


class Gate:
    """The door of an opened kernel: for one at a time, or for all; shut for good once nobody is inside.

    Only calls of that one kernel ever wait here.
    """

    __slots__ = ("closed", "exclusive", "inside", "leave", "turn")

    def __init__(self, *, exclusive: bool) -> None:
        lock = threading.Lock()
        self.exclusive = exclusive
        self.turn = lock.acquire
        self.leave = lock.release
        self.inside: list[None] = []
        """One for each who is inside. Append and pop are atomic, so that no lock is needed to count."""
        self.closed = False

    def __enter__(self) -> None:
        if self.exclusive and not self.turn(blocking=False):
            self.wait()
        self.inside.append(None)
        if self.closed:
            self.__exit__()
            raise Retired

    def __exit__(self, *exception: object) -> None:
        self.inside.pop()
        if self.exclusive:
            self.leave()

    def wait(self) -> None:
        """Wait for one's turn.

        Raises:
            Retired: Its owner hangs and was given up.
        """
        while not self.turn(timeout=PATIENCE_S):
            if self.closed:
                raise Retired

    def shut(self, wait_s: float) -> bool:
        """Let nobody in any more; whether everybody has left within the time."""
        self.closed = True
        until = time.monotonic() + wait_s
        while self.inside:
            if time.monotonic() > until:
                return False
            time.sleep(0.001)
        return True


@dataclass(slots=True, eq=False)
class Server:
    """One ranked candidate at run time. ``lock`` guards state only, never a running kernel."""

    candidate: Candidate
    load: Load
    kernel: Kernel | None = None
    failures: int = 0
    """Failures that count towards quarantine."""
    last_failure: float = -math.inf
    calls_at_failure: int = -1
    until: float = 0.0
    """When it may be probed again, on the monotonic clock; only in quarantine."""
    wait_s: float = 0.0
    """How long its last quarantine was."""
    strikes: int = 0
    """Quarantines that make the next one longer."""
    hung: int = 0
    """Calls that passed their deadline and have not come back."""
    probing: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)
    _loading: threading.Lock = field(default_factory=threading.Lock)
    _retired: bool = False

    def __post_init__(self) -> None:
        if self.kernel is not None:
            _set_gate(self.kernel)

    @property
    def quarantined(self) -> bool:
        """Whether it must pass its probes before it serves again."""
        return self.candidate.state is State.QUARANTINED

    @property
    def failing(self) -> bool:
        """Whether it has done nothing right since its last failure."""
        return self.calls_at_failure == self.candidate.counters.calls

    def ready(self) -> Kernel:
        """Its kernel, loaded and probed in this process when its turn comes.

        Raises:
            Retired: It has been let go for good.
            ProofFailed: It does not load, or is not what its certificate says.
        """
        if (kernel := self.kernel) is not None:
            return kernel
        with self._loading:  # whoever comes second waits for the kernel that the first one loads
            if self._retired:
                raise Retired
            if self.kernel is None:
                kernel = self.load(self.candidate)
                _set_gate(kernel)
                self.kernel = kernel
            return self.kernel

    def count_failure(self, forget_s: float) -> int:
        """Note a failure and return how many there are; they are forgotten when none comes for so long."""
        with self.lock:
            now = time.monotonic()
            if now - self.last_failure > forget_s:
                self.failures = 0
            self.failures += 1
            self.last_failure, self.calls_at_failure = now, self.candidate.counters.calls
            return self.failures

    def same_kernel(self, candidate: Candidate, kernel: Kernel | None = None) -> bool:
        """Whether another candidate, with the kernel that is loaded for it, means the kernel of this one."""
        if kernel is not None and kernel is not self.kernel:
            return False
        mine = self.candidate
        return (
            mine.implementation == candidate.implementation
            and mine.plan == candidate.plan
            and mine.distribution == candidate.distribution
        )

    def stand_for(self, candidate: Candidate) -> None:
        """Take a new negotiation's candidate of the same id: its quarantine stays."""
        before, self.candidate = self.candidate, candidate
        if before.state is State.QUARANTINED:
            candidate.state = State.QUARANTINED
            candidate.reasons += [r for r in before.reasons if r.code is ReasonCode.QUARANTINED]

    def heir(self, candidate: Candidate, load: Load, kernel: Kernel | None) -> Server:
        """A server of another kernel of the same id, with the quarantine of this one."""
        made = Server(self.candidate, load, kernel)
        made.until, made.wait_s, made.strikes = self.until, self.wait_s, self.strikes
        made.stand_for(candidate)
        return made

    def renew(self, wait_s: float) -> None:
        """Let an opened kernel go, so that the next one who needs it opens a fresh one.

        One that somebody is still in is left as it is: closing it under its feet could crash the process.
        """
        with self._loading:
            kernel, self.kernel = self.kernel, None
        if kernel is not None and isinstance(kernel.turn, Gate) and kernel.turn.shut(wait_s):
            kernel.close()

    def retire(self, wait_s: float) -> None:
        """Let the kernel go for good, once nobody is in it."""
        self._retired = True
        self.renew(wait_s)


def _set_gate(kernel: Kernel) -> None:
    """Guard the door of a kernel that has one owner at a time, or that must not be closed while it runs."""
    opened = kernel.implementation.opener is not None and not isinstance(kernel.turn, Gate)
    if opened and (kernel.turn is not None or hasattr(kernel.call, "close")):
        kernel.turn = Gate(exclusive=kernel.turn is not None)
