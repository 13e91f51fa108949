"""Quarantine: who failed too often, or was proved wrong, passes its probes before it serves again."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from assay.contract.candidate import Candidate, State
from assay.contract.capabilities import Accuracy
from assay.contract.reasons import Reason, ReasonCode
from assay.scheduler.blame import Fault
from assay.scheduler.events import Events
from assay.scheduler.roster import Roster
from assay.scheduler.server import Server

if TYPE_CHECKING:
    from assay.scheduler.warden import Warden

DOUBLINGS = 10
"""How often the waiting time doubles at most."""

FORGIVEN_AFTER = 10
"""Who has served this many times as long as it last waited starts again at the first waiting time."""


class Quarantine:
    """The state of one operation's servers. The lock guards state only, never a running kernel."""

    def __init__(self, roster: Roster, events: Events, warden: Warden, changed: Callable[[], None]) -> None:
        self.roster = roster
        self._events = events
        self._warden = warden
        self._changed = changed
        self._lock = threading.Lock()

    def replace(self, make: Callable[[Roster], Roster]) -> Roster:
        """Put a new roster in the old one's place, with the quarantines of the old; returns the old."""
        with self._lock:
            old = self.roster
            self.roster = make(old)
            self._restate()
        for server in self.roster.servers:
            if server.quarantined:
                self._warden.sentenced(server)
        return old

    def accuse(self, fault: Fault) -> None:
        """Count a failure; at the limit the implementation goes, at a device's loss all that is on it."""
        server, policy = fault.leg.server, self.roster.policy
        failures = server.count_failure(policy.cooldown_s)
        limit = policy.failures
        if fault.kind == "load":
            limit = 1  # it does not load: trying again at once tells nothing new
        elif fault.kind == "out_of_memory":
            limit = max(limit, 2)  # one event says more about the load than about the kernel
        if fault.kind == "device_lost" or self._warden.device_failing(server):
            self._warden.device_lost(device_of(server), fault.what)
        elif failures >= limit:
            self.impose(server, f"{failures} failure(s), the last: {fault.what}")

    def impose(self, server: Server, why: str) -> bool:
        """Take an implementation out until it has passed its probes. The last one stays."""
        with self._lock:
            active = self.roster.active
            if server not in active or active == [server]:
                return False
            server.candidate.state = State.QUARANTINED
            self._sentence(server, why)
            self._restate()
        self._announce(server, why)
        return True

    def impose_on_device(self, device: str, why: str) -> list[str]:
        """Take out everything of this operation that is on a device; returns who went."""
        on_it = [server for server in self.roster.active if device_of(server) == device]
        return [s.candidate.id for s in on_it if self.impose(s, f"its device {device} was lost: {why}")]

    def keep_out(self, server: Server, why: str) -> None:
        """It has not passed its probes: it waits again, longer."""
        why = f"its probes failed again: {why}"
        with self._lock:
            if server not in self.roster.servers or not server.quarantined:
                return
            self._sentence(server, why)
        self._announce(server, why)

    def readmit(self, server: Server) -> None:
        """Put an implementation that has passed its probes back in its place."""
        with self._lock:
            if server not in self.roster.servers or not server.quarantined:
                return
            server.candidate.state = State.STANDBY
            _forget_quarantine(server.candidate)
            self._restate()
        self._events.emit(
            logging.INFO, "kernel.readmitted", candidate=server.candidate.id, op=self.roster.op.name
        )

    def _sentence(self, server: Server, why: str) -> None:
        now = time.monotonic()
        if now - server.until > FORGIVEN_AFTER * server.wait_s:
            server.strikes = 0
        server.wait_s = float(self.roster.policy.cooldown_s * 2 ** min(server.strikes, DOUBLINGS))
        server.until = now + server.wait_s
        server.strikes += 1
        server.failures = 0
        server.candidate.counters.quarantines += 1
        _forget_quarantine(server.candidate)
        remedy = f"probed again after {server.wait_s:.3g} s"
        server.candidate.reasons.append(Reason(ReasonCode.QUARANTINED, f"quarantined after {why}", remedy))

    def _announce(self, server: Server, why: str) -> None:
        active = self.roster.active
        extra: dict[str, Any] = {"serving": active[0].candidate.id} if active else {}
        if active and looser([server], active[0]):
            extra["accuracy"] = Accuracy.APPROXIMATE.value
        self._events.emit(
            logging.ERROR,
            "kernel.quarantined",
            candidate=server.candidate.id,
            op=self.roster.op.name,
            reason=why,
            seconds=server.wait_s,
            **extra,
        )
        self._warden.sentenced(server)

    def _restate(self) -> None:
        for index, server in enumerate(self.roster.active):
            server.candidate.state = State.STANDBY if index else State.SERVING
        self._changed()


def looser(before: Iterable[Server], now: Server) -> bool:
    """Whether an approximate implementation serves in the place of an exact one."""
    exact = any(server.candidate.implementation.capabilities.accuracy is Accuracy.EXACT for server in before)
    return exact and now.candidate.implementation.capabilities.accuracy is Accuracy.APPROXIMATE


def device_of(server: Server) -> str:
    """The id of the device that a server's plan is for."""
    plan = server.candidate.plan
    return plan.device.id if plan is not None else ""


def _forget_quarantine(candidate: Candidate) -> None:
    candidate.reasons = [r for r in candidate.reasons if r.code is not ReasonCode.QUARANTINED]
