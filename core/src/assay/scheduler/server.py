"""A candidate that may serve: its kernel, its failures, its quarantine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from assay.contract.candidate import Candidate, State
from assay.negotiation.kernel import Kernel

Load = Callable[[Candidate], Kernel]


@dataclass(slots=True, eq=False)
class Server:
    """One ranked candidate at run time. The lock guards state and loading, never a running kernel."""

    candidate: Candidate
    load: Load
    kernel: Kernel | None = None
    failures: int = 0
    last_failure: float = 0.0
    until: float = 0.0
    """When it may be probed again, on the monotonic clock; only in quarantine."""
    hung: int = 0
    """Calls that passed their deadline and have not come back."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def quarantined(self) -> bool:
        """Whether it must pass its probes before it serves again."""
        return self.candidate.state is State.QUARANTINED

    def ready(self) -> Kernel:
        """Its kernel, loaded and probed in this process when its turn comes.

        Raises:
            ProofFailed: It does not load, or is not what its certificate says.
        """
        if self.kernel is None:
            with self.lock:
                if self.kernel is None:
                    self.kernel = self.load(self.candidate)
        return self.kernel

    def count_failure(self, forget_s: float) -> int:
        """Note a failure and return how many there are; they are forgotten when none comes for so long."""
        with self.lock:
            now = time.monotonic()
            if now - self.last_failure > forget_s:
                self.failures = 0
            self.failures += 1
            self.last_failure = now
            return self.failures

    def close(self) -> None:
        """Close the kernel."""
        with self.lock:
            kernel, self.kernel = self.kernel, None
        if kernel is not None:
            kernel.close()
