"""The run time of one operation: who may serve, what follows when a kernel fails."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from assay.config import Config
from assay.contract.candidate import Candidate, State
from assay.contract.capabilities import Accuracy
from assay.contract.errors import (
    DeadlineExceeded,
    DeviceLost,
    InvalidInput,
    NoImplementation,
    OperationFailed,
)
from assay.contract.naming import selects
from assay.contract.operation import Array, Arrays, Operation, Params, Spec
from assay.contract.reasons import Reason, ReasonCode
from assay.negotiation.domain import CompiledDomain, Refusal
from assay.negotiation.kernel import BadResult, Kernel
from assay.negotiation.negotiate import Slate
from assay.negotiation.proof import ProofFailed
from assay.scheduler.deadline import Hung, Lanes
from assay.scheduler.events import Events
from assay.scheduler.finite import all_finite
from assay.scheduler.route import Leg, NonFinite, Route, non_finite_input
from assay.scheduler.server import Server

Load = Callable[[Operation[Any, Any], Candidate], Kernel]


class Dispatcher:
    """Serves the requests of one operation from its slate."""

    def __init__(self, slate: Slate, config: Config, load: Load, events: Events) -> None:
        self.op = slate.op
        self.slate = slate
        self.config = config
        self.policy = config.fallback
        self.events = events
        self.lanes = Lanes()
        self.servers = [
            Server(candidate, lambda c: load(slate.op, c), slate.kernels.get(candidate.id))
            for candidate in slate.ranked
        ]
        self.lock = threading.Lock()
        self.listeners: list[Callable[[], None]] = []
        """Told whenever the serving order changes, so that no route outlives it."""
        self.on_quarantine: Callable[[Server], None] = lambda server: None
        self._domains: dict[str, CompiledDomain] = {}

    @property
    def active(self) -> list[Server]:
        """Who may serve now, best first."""
        return [server for server in self.servers if not server.quarantined]

    def chosen(self) -> Server | None:
        """Who serves now."""
        return next(iter(self.active), None)

    def route(self, inputs: Arrays, params: Params, require: str | None = None) -> Route:
        """Check a request's signature and find who takes it.

        Raises:
            InvalidInput: It is no request of this operation.
            NoImplementation: Nobody takes it; with every reason.
        """
        op = self.op
        spec = op.infer(*inputs[: len(op.required)], **op.keywords(inputs, params))
        legs: list[Leg] = []
        refusals: list[tuple[str, Refusal]] = []
        for server in self.active:
            if require is not None and not selects(require, server.candidate.id):
                continue
            leg = self._leg(server, inputs, params, spec)
            if isinstance(leg, Leg):
                legs.append(leg)
            else:
                refusals.append((server.candidate.id, leg))
        if not legs:
            raise NoImplementation(self._nobody(inputs, params, refusals, require), self.slate.decision)
        main = inputs[0]
        assert main is not None
        return Route(op, params, spec, legs, main.dtype)

    def serve(
        self,
        route: Route,
        inputs: Arrays,
        out: Array | None,
        deadline_s: float | None,
        failed: Exception | None = None,
    ) -> Array:
        """Serve one request: the first plan that does it rightly, all from the same untouched inputs.

        ``failed`` is what the first plan has already raised on the hot path.

        Raises:
            InvalidInput: The caller's values are at fault.
            OperationFailed, DeadlineExceeded: No plan was left.
        """
        attempts: list[tuple[str, str]] = []
        timed_out = True
        direct = _direct(out, inputs) and deadline_s is None
        for leg in route.legs:
            candidate = leg.server.candidate
            try:
                if failed is not None:
                    error, failed = failed, None
                    raise error
                if deadline_s is None:
                    result = leg.run(inputs, out if direct else None)
                else:
                    result = self.lanes.run(leg, inputs, deadline_s, self.policy.hung_threads)
            except InvalidInput:
                raise
            except Exception as error:  # noqa: BLE001  # a kernel may raise anything
                timed_out = timed_out and isinstance(error, Hung)
                attempts.append((candidate.id, self.blame(leg, inputs, error)))
                if not self.policy.enabled:
                    break
                continue
            if attempts:
                self._fell_back(leg, attempts)
            if out is None:
                return result
            if result is not out:
                np.copyto(out, result)
            return out
        if timed_out:
            raise DeadlineExceeded(f"{OperationFailed(self.op.name, attempts)}")
        raise OperationFailed(self.op.name, attempts)

    def blame(self, leg: Leg, inputs: Arrays, error: Exception) -> str:
        """Who is at fault, and what follows; returns what happened in words.

        Raises:
            InvalidInput: The caller is.
        """
        if isinstance(error, FloatingPointError):
            for item, array in zip(self.op.inputs, inputs, strict=True):
                if item.finite and array is not None and not all_finite(array):
                    raise non_finite_input(self.op, item.name, array) from None
        server = leg.server
        kind, what = _name(error)
        server.candidate.counters.failures[kind] += 1
        self.events.emit(
            logging.WARNING,
            "kernel.failed",
            candidate=server.candidate.id,
            kind=kind,
            error=what,
            op=self.op.name,
        )
        if isinstance(error, DeviceLost) and server.candidate.plan is not None:
            self.quarantine_device(server.candidate.plan.device.id, what)
        elif isinstance(error, MemoryError):
            pass  # load, not guilt: one event ejects nobody
        elif server.count_failure(self.policy.cooldown_s) >= self.policy.failures or isinstance(
            error, ProofFailed
        ):
            self.quarantine(server, f"{server.failures} failure(s), the last: {what}")
        return what

    def quarantine(self, server: Server, why: str) -> None:
        """Take an implementation out of service until it has passed its probes. The last one stays."""
        with self.lock:
            if server.quarantined or self.active == [server]:
                return
            server.candidate.state = State.QUARANTINED
            wait = self._sentence(server, why)
            self._restate()
        self._announce(server, why, wait)

    def keep_out(self, server: Server, why: str) -> None:
        """It has not passed its probes: it waits again, longer."""
        with self.lock:
            if not server.quarantined:
                return
            wait = self._sentence(server, f"its probes failed again: {why}")
        self._announce(server, why, wait)

    def _sentence(self, server: Server, why: str) -> float:
        counters = server.candidate.counters
        counters.quarantines += 1
        wait = float(self.policy.cooldown_s * 2 ** min(counters.quarantines - 1, 10))
        server.until = time.monotonic() + wait
        server.failures = 0
        _forget_quarantine(server.candidate)
        server.candidate.reasons.append(
            Reason(ReasonCode.QUARANTINED, f"quarantined after {why}", f"probed again after {wait:.3g} s")
        )
        return wait

    def _announce(self, server: Server, why: str, wait: float) -> None:
        id = server.candidate.id
        self.events.emit(
            logging.ERROR, "kernel.quarantined", candidate=id, op=self.op.name, reason=why, seconds=wait
        )
        self.on_quarantine(server)

    def quarantine_device(self, device: str, why: str) -> None:
        """Take out everything on a device at once."""
        self.events.emit(logging.ERROR, "device.quarantined", device=device, op=self.op.name, reason=why)
        for server in self.active:
            if server.candidate.plan is not None and server.candidate.plan.device.id == device:
                self.quarantine(server, f"its device {device} was lost: {why}")

    def readmit(self, server: Server) -> None:
        """Put an implementation that has passed its probes back in its place."""
        with self.lock:
            if not server.quarantined:
                return
            server.candidate.state = State.STANDBY
            _forget_quarantine(server.candidate)
            self._restate()
        self.events.emit(logging.INFO, "kernel.readmitted", candidate=server.candidate.id, op=self.op.name)

    def _restate(self) -> None:
        for index, server in enumerate(self.active):
            server.candidate.state = State.STANDBY if index else State.SERVING
        for listener in self.listeners:
            listener()

    def _leg(self, server: Server, inputs: Arrays, params: Params, spec: Spec) -> Leg | Refusal:
        op, main = self.op, inputs[0]
        assert main is not None
        try:
            domain = self._domain(server)
        except Exception as error:  # noqa: BLE001  # a predicate's import may raise anything
            return ReasonCode.LOAD_FAILED, f"its shapes predicate raised {type(error).__name__}: {error}"
        names = [main.dtype.name, *op.converts.get(main.dtype.name, ())]
        name = next((name for name in names if domain.takes_dtype(name)), names[0])
        dtype = None if name == main.dtype.name else np.dtype(name)
        shaped = inputs
        if dtype is not None:
            shaped = tuple(
                array if array is None or array.dtype != main.dtype else _shape_only(array, dtype)
                for array in inputs
            )
        try:
            refusal = domain.refuses(name, shaped, params)
        except Exception as error:  # noqa: BLE001  # a predicate may raise anything
            refusal = (
                ReasonCode.SHAPE_UNSUPPORTED,
                f"its shapes predicate raised {type(error).__name__}: {error}",
            )
        if refusal is not None:
            return refusal
        kernel_spec = spec
        if dtype is not None:
            kernel_spec = op.infer(*shaped[: len(op.required)], **op.keywords(shaped, params))
        items = 1
        if server.candidate.implementation.capabilities.form == "items" and op.items is not None:
            shape = server.candidate.implementation.capabilities.item_shape
            items = op.items.split(shaped, params, item_shape=shape, out=None).count
        return Leg(
            server=server,
            op=op,
            params=params,
            spec=kernel_spec,
            result_dtype=spec.dtype,
            dtype=dtype,
            items=items,
            work=op.work(inputs, params),
            check=self.policy.check,
        )

    def _domain(self, server: Server) -> CompiledDomain:
        if server.kernel is not None:
            return server.kernel.domain
        id = server.candidate.id
        if id not in self._domains:
            self._domains[id] = CompiledDomain(self.op, server.candidate.implementation.capabilities)
        return self._domains[id]

    def _fell_back(self, leg: Leg, attempts: Sequence[tuple[str, str]]) -> None:
        candidate = leg.server.candidate
        candidate.counters.fallbacks += 1
        loose = (
            candidate.implementation.capabilities.accuracy is Accuracy.APPROXIMATE
            and self._accuracy(attempts[0][0]) is Accuracy.EXACT
        )
        self.events.emit(
            logging.WARNING,
            "call.fell_back",
            candidate=candidate.id,
            op=self.op.name,
            failed=", ".join(id for id, _ in attempts),
            reason=attempts[-1][1],
            **({"accuracy": "approximate"} if loose else {}),
        )

    def _accuracy(self, id: str) -> Accuracy:
        return next(
            s.candidate.implementation.capabilities.accuracy for s in self.servers if s.candidate.id == id
        )

    def _nobody(
        self,
        inputs: Arrays,
        params: Params,
        refusals: Sequence[tuple[str, Refusal]],
        require: str | None,
    ) -> str:
        shapes = ", ".join(
            f"{item.name} {array.dtype} {array.shape}"
            for item, array in zip(self.op.inputs, inputs, strict=True)
            if array is not None
        )
        terms = ", ".join([shapes, *(f"{name}={value!r}" for name, value in params.items())])
        wanted = f" (required: {require!r})" if require else ""
        lines = [f"  {id}: {message}" for id, (_, message) in refusals]
        return "\n".join(
            [f"{self.op.name}: no implementation takes {terms}{wanted}", *lines, str(self.slate.decision)]
        )

    def close(self) -> None:
        """Close every kernel."""
        for server in self.servers:
            server.close()
        self.lanes.close()


def _forget_quarantine(candidate: Candidate) -> None:
    candidate.reasons = [r for r in candidate.reasons if r.code is not ReasonCode.QUARANTINED]


def _direct(out: Array | None, inputs: Arrays) -> bool:
    """Whether a kernel may write to the caller's own ``out``."""
    return (
        out is not None
        and bool(out.flags.c_contiguous and out.flags.aligned)
        and not any(array is not None and np.may_share_memory(array, out) for array in inputs)
    )


def check_out(op: Operation[Any, Any], out: Any, spec: Spec) -> Array:
    """The caller's ``out``, if a result fits in it.

    Raises:
        InvalidInput: It does not.
    """
    if not isinstance(out, np.ndarray) or out.shape != spec.shape or out.dtype != spec.dtype:
        found = f"{out.dtype} {out.shape}" if isinstance(out, np.ndarray) else type(out).__name__
        raise InvalidInput(f"{op.name}: out is {found}, expected an array of {spec.dtype} {spec.shape}")
    if not out.flags.writeable:
        raise InvalidInput(f"{op.name}: out is read-only, expected a writable array")
    return out


def _shape_only(array: Array, dtype: np.dtype[Any]) -> Array:
    """An array of a shape and dtype that holds no memory of its own."""
    return np.broadcast_to(np.zeros((), dtype), array.shape)


def _name(error: Exception) -> tuple[str, str]:
    """A failure's kind for the counters, and in words."""
    if isinstance(error, BadResult):
        return "bad_result", str(error)
    if isinstance(error, NonFinite):
        return "non_finite", str(error)
    if isinstance(error, Hung):
        return "deadline", str(error)
    if isinstance(error, MemoryError):
        return "out_of_memory", f"ran out of memory: {error}"
    if isinstance(error, DeviceLost):
        return "device_lost", str(error)
    if isinstance(error, ProofFailed):
        return "load", error.message
    return "raised", f"raised {type(error).__name__}: {error}"
