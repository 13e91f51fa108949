"""Serves the requests of one operation: the first plan that does it rightly, nothing lost on the way."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.config import Config
from assay.contract.capabilities import Accuracy
from assay.contract.errors import AssayError, DeadlineExceeded, OperationFailed
from assay.contract.operation import Array, Arrays, Operation
from assay.negotiation.negotiate import Slate
from assay.scheduler.batcher import Batcher
from assay.scheduler.blame import Fault, examine
from assay.scheduler.capture import Captures
from assay.scheduler.deadline import Lanes
from assay.scheduler.events import Events
from assay.scheduler.quarantine import Quarantine, looser
from assay.scheduler.roster import Roster
from assay.scheduler.route import Leg, Route
from assay.scheduler.server import Load, Retired, Server
from assay.scheduler.shadow import Shadow
from assay.scheduler.steward import Steward

if TYPE_CHECKING:
    from assay.scheduler.bound import BoundOperation
    from assay.scheduler.warden import Warden

CERTAIN = frozenset({"device_lost", "load"})
"""Faults that need no other plan's success to be the kernel's."""


class Dispatcher:
    """One operation at run time. A reload replaces its roster; it stays, and so do those bound to it."""

    def __init__(
        self,
        slate: Slate,
        config: Config,
        load: Load,
        *,
        events: Events,
        lanes: Lanes,
        steward: Steward,
        warden: Warden,
    ) -> None:
        servers = [Server(c, load, slate.kernels.get(c.id)) for c in slate.ranked]
        self.quarantine = Quarantine(Roster(slate, config, servers), events, warden, self._forget)
        self.events = events
        self.lanes = lanes
        self.shadow = Shadow(self.quarantine, events, lanes, steward)
        self.captures = Captures(steward)
        self.queue = Batcher(self)
        self.closed: AssayError | None = None
        self._bound: weakref.WeakSet[BoundOperation[..., Any]] = weakref.WeakSet()
        self._binding = threading.Lock()
        self._counting = threading.Lock()

    @property
    def roster(self) -> Roster:
        """Who may serve."""
        return self.quarantine.roster

    @property
    def op(self) -> Operation[Any, Any]:
        """The operation."""
        return self.roster.op

    def adopt(self, slate: Slate, config: Config, load: Load) -> list[Server]:
        """Serve from another decision from now on; returns the servers that nobody will ask again."""

        def make(old: Roster) -> Roster:
            before = {server.candidate.id: server for server in old.servers}
            counters = {candidate.id: candidate.counters for candidate in old.slate.decision.candidates}
            for candidate in slate.decision.candidates:
                candidate.counters = counters.get(candidate.id, candidate.counters)
            servers = []
            for candidate in slate.ranked:
                server = before.get(candidate.id)
                kernel = slate.kernels.get(candidate.id)
                if server is None:
                    server = Server(candidate, load, kernel)
                elif slate.op is not old.op or not server.same_kernel(candidate, kernel):
                    server = server.heir(candidate, load, kernel)
                else:
                    server.stand_for(candidate)
                    server.load = load
                servers.append(server)
            return Roster(slate, config, servers)

        old = self.quarantine.replace(make)
        return [server for server in old.servers if server not in self.roster.servers]

    def serve(
        self,
        route: Route,
        inputs: Arrays,
        out: Array | None = None,
        deadline_s: float | None = None,
        failed: BaseException | None = None,
    ) -> Array:
        """Serve one request: the first plan that does it rightly, all from the same untouched inputs.

        Args:
            route: The checked signature of the request.
            inputs: The caller's own arrays.
            out: Where the caller wants the result.
            deadline_s: The longest that each plan may take.
            failed: What the first plan has already raised for this request.

        Raises:
            InvalidInput: The caller's values are at fault.
            OperationFailed, DeadlineExceeded: No plan was left.
        """
        faults: list[Fault] = []
        direct = out if deadline_s is None and _direct(out, inputs) else None
        for leg in route.legs:
            if failed is None:
                leg.admit(inputs)
                try:
                    result, elapsed = self._ask(leg, inputs, direct, deadline_s)
                except BaseException as error:  # noqa: BLE001  # a kernel may raise anything
                    failed = error
            if failed is not None:
                if isinstance(failed, Retired):
                    return self.serve(self.anew(route, inputs), inputs, out, deadline_s)
                faults.append(self.note(leg, inputs, failed))
                failed = None
                if route.policy.enabled:
                    continue
                break
            leg.count(elapsed)
            if faults:
                self._fell_back(leg, faults)
                faults.clear()  # what was raised holds this frame, and with it the request's arrays
            if route.watched:
                self.shadow.offer(leg, route, inputs, result)
            if out is None:
                return result
            if result is not out:
                np.copyto(out, result)
            return out
        raise self._nobody_left(route, faults)

    def serve_failed(self, route: Route, inputs: Arrays, error: BaseException) -> Array:
        """Serve a request that its first plan has failed on the hot path."""
        return self.serve(route, inputs, failed=error)

    def anew(self, route: Route, inputs: Arrays) -> Route:
        """The route of a request whose first one has been overtaken.

        Raises:
            AssayError: The runtime is closed.
        """
        if self.closed is not None:
            raise self.closed
        return self.roster.route(inputs, route.params, route.require)

    def note(self, leg: Leg, inputs: Arrays, error: BaseException) -> Fault:
        """Find who is at fault for a failed attempt, count it and tell it.

        Raises:
            InvalidInput: The caller is.
        """
        fault = examine(leg, inputs, error)
        with self._counting:
            leg.server.candidate.counters.failures[fault.kind] += 1
        self.events.emit(
            logging.WARNING,
            "kernel.failed",
            candidate=fault.id,
            kind=fault.kind,
            error=fault.what,
            op=self.op.name,
        )
        self.captures.offer(self.roster.policy, leg, inputs, fault.what)
        return fault

    def accuse(self, leg: Leg, inputs: Arrays, error: BaseException) -> None:
        """Count a failure after which the same plan has served the same requests."""
        fault = self.note(leg, inputs, error)
        if fault.guilty and self.roster.policy.enabled:
            self.quarantine.accuse(fault)

    def _ask(
        self, leg: Leg, inputs: Arrays, out: Array | None, deadline_s: float | None
    ) -> tuple[Array, float]:
        if deadline_s is None:
            return leg.answer(inputs, out)
        private = tuple(None if array is None else array.copy() for array in inputs)
        bound = self.roster.policy.hung_threads
        return self.lanes.run(leg.server, partial(leg.answer, private), deadline_s, bound)

    def _fell_back(self, leg: Leg, faults: Sequence[Fault]) -> None:
        """Another plan has served: so the request was sound, and who failed it is guilty."""
        candidate = leg.server.candidate
        candidate.counters.fallbacks += 1
        loose = looser([fault.leg.server for fault in faults], leg.server)
        self.events.emit(
            logging.WARNING,
            "call.fell_back",
            candidate=candidate.id,
            op=self.op.name,
            failed=", ".join(fault.id for fault in faults),
            reason=faults[-1].what,
            **({"accuracy": Accuracy.APPROXIMATE.value} if loose else {}),
        )
        for fault in faults:
            if fault.guilty:
                self.quarantine.accuse(fault)

    def _nobody_left(self, route: Route, faults: list[Fault]) -> AssayError:
        """The error of a request that no plan could serve.

        Where several plans failed it, the request may be what is wrong, and nobody is taken out for that.
        """
        for fault in faults:
            sure = fault.kind in CERTAIN or (fault.guilty and len(route.legs) == 1)
            if sure and route.policy.enabled:
                self.quarantine.accuse(fault)
        attempts = [(fault.id, fault.what) for fault in faults]
        failed: AssayError = OperationFailed(self.op.name, attempts)
        if all(fault.kind == "deadline" for fault in faults):
            failed = DeadlineExceeded(str(failed))
        refused = [fault.error for fault in faults if fault.kind == "refused"]
        if refused:
            failed = refused[0]  # type: ignore[assignment]  # an InvalidInput, which is an AssayError
        failed.__cause__ = faults[-1].error
        faults.clear()
        return failed

    def bind(self, operation: BoundOperation[..., Any]) -> None:
        """Tell a bound operation from now on when the serving order changes, so that no route outlives it."""
        with self._binding:
            self._bound.add(operation)

    def shut(self, reason: AssayError) -> None:
        """Answer every call from now on with an error. Takes no lock: a child after a fork may need it."""
        self.closed = reason
        for operation in list(self._bound):
            operation.shut(reason)

    def _forget(self) -> None:
        with self._binding:
            for operation in self._bound:
                operation.forget()

    def close(self, wait_s: float) -> None:
        """Close every kernel that nobody is in."""
        for server in self.roster.servers:
            server.retire(wait_s)


def _direct(out: Array | None, inputs: Arrays) -> bool:
    """Whether a kernel may write to the caller's own ``out``."""
    return (
        out is not None
        and bool(out.flags.c_contiguous and out.flags.aligned)
        and not any(array is not None and np.may_share_memory(array, out) for array in inputs)
    )
