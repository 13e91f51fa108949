"""Background care of all operations: probes the quarantined, proves the serving again, watches devices."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from assay.contract.candidate import Candidate
from assay.negotiation.negotiate import Negotiation
from assay.negotiation.proof import ProofFailed, prove
from assay.negotiation.prover import within
from assay.scheduler.dispatcher import Dispatcher
from assay.scheduler.events import Events
from assay.scheduler.quarantine import device_of
from assay.scheduler.server import Server
from assay.scheduler.steward import Steward

CLOSING_S = 1.0
"""How long a probe waits for others to leave a kernel that it wants to open anew."""


class Warden:
    """Knows every operation of a runtime. ``put_in_charge`` tells it which ones, and how they are proved."""

    def __init__(self, events: Events, steward: Steward) -> None:
        self._events = events
        self._steward = steward
        self._dispatchers: Mapping[str, Dispatcher] = {}
        self._negotiation: Negotiation | None = None

    def put_in_charge(self, dispatchers: Mapping[str, Dispatcher], negotiation: Negotiation) -> None:
        """Care for these from now on."""
        self._dispatchers, self._negotiation = dispatchers, negotiation
        self._plan_proof(negotiation)

    def sentenced(self, server: Server) -> None:
        """Have it probed when its time has come."""
        self._steward.at(server.until, lambda: self._probe(server))

    def _probe(self, server: Server) -> None:
        """Let a quarantined implementation pass its probes, off everybody's path, with a deadline."""
        dispatcher = self._dispatchers.get(server.candidate.implementation.op)
        if (
            dispatcher is None
            or self._negotiation is None
            or server not in dispatcher.roster.servers
            or not server.quarantined
            or time.monotonic() < server.until
        ):
            return  # overtaken by a reload, or by another probe
        quarantine = dispatcher.quarantine
        if server.probing:
            quarantine.keep_out(server, "the last probe still hangs")
            return
        server.probing = True

        def work() -> None:
            try:
                server.renew(CLOSING_S)
                prove(server.ready())
            finally:
                server.probing = False

        try:
            within(work, self._negotiation.config.proof.timeout_s, "probing it again")
        except ProofFailed as failure:
            quarantine.keep_out(server, failure.message)
        except BaseException as error:  # noqa: BLE001  # a kernel may raise anything
            quarantine.keep_out(server, f"{type(error).__name__}: {error}")
        else:
            quarantine.readmit(server)

    def _plan_proof(self, negotiation: Negotiation) -> None:
        interval = negotiation.config.proof.interval_s
        if interval is not None and negotiation.config.proof.mode in ("cached", "always"):
            self._steward.at(time.monotonic() + interval, lambda: self._prove_serving(negotiation))

    def _prove_serving(self, negotiation: Negotiation) -> None:
        """Prove who serves anew, in the worker; who fails goes into quarantine."""
        if negotiation is not self._negotiation:
            return  # a reload has planned its own
        for dispatcher in self._dispatchers.values():
            roster = dispatcher.roster
            for server in roster.active[:1]:
                now = server.candidate
                copy = Candidate(now.implementation, now.distribution, live=now.live, plan=now.plan)
                negotiation.certify(roster.op, copy, anew=True)
                if copy.rejected:
                    dispatcher.quarantine.impose(server, f"it was proved again: {copy.reasons[-1].message}")
        negotiation.prover.close()
        self._plan_proof(negotiation)

    def device_failing(self, server: Server) -> bool:
        """Whether every kernel that was opened on a device, and there are several, fails now."""
        plan = server.candidate.plan
        if plan is None or plan.device.kind == "cpu":
            return False
        servers = [s for d in self._dispatchers.values() for s in d.roster.servers]
        on_it = [s for s in servers if device_of(s) == plan.device.id and s.kernel is not None]
        return len(on_it) > 1 and all(s.failing or s.quarantined for s in on_it)

    def device_lost(self, device: str, why: str) -> None:
        """Take out everything on a device, whatever the operation."""
        dispatchers = self._dispatchers.values()
        gone = [id for d in dispatchers for id in d.quarantine.impose_on_device(device, why)]
        if gone:
            self._events.emit(
                logging.ERROR, "device.quarantined", device=device, reason=why, candidates=", ".join(gone)
            )
