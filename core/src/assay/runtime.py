"""Opens everything, holds the bound operations, closes everything."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, Self, TypeVar, overload

from assay.config import Config, Loaded, load
from assay.contract.candidate import Candidate, Decision
from assay.contract.errors import (
    AssayError,
    ConfigError,
    ForkedRuntime,
    NoImplementation,
    Overloaded,
    UnknownOperation,
)
from assay.contract.log import emit
from assay.contract.naming import is_pattern, near, selects
from assay.contract.operation import Operation
from assay.devices.cpu import usable_cores
from assay.devices.inventory import Inventory
from assay.devices.xrt.offers import XrtPlugin
from assay.negotiation.kernel import Kernel
from assay.negotiation.ledger import Ledger
from assay.negotiation.negotiate import Negotiation, Slate
from assay.negotiation.prover import Prover
from assay.registry import Registry, discover
from assay.scheduler import capture, report
from assay.scheduler.bound import BoundOperation
from assay.scheduler.deadline import Lanes
from assay.scheduler.dispatcher import Dispatcher
from assay.scheduler.events import Callback, Events
from assay.scheduler.server import Server
from assay.scheduler.steward import Steward
from assay.scheduler.warden import Warden

P = ParamSpec("P")
R = TypeVar("R")

Given = Config | Mapping[str, Any] | str | os.PathLike[str] | None

CLOSING_S = 5.0
"""How long closing waits for calls that run."""

LOOK_AHEAD = 32
"""Requests that ``map`` has under way at a time."""

BOUND = 256
"""Bound operations that are kept for the next ``op`` with the same arguments."""


class Runtime:
    """Negotiates every operation at start-up and serves them until it is closed.

    Args:
        config: A path, a mapping, a ``Config``, or None for the file that applies.
        plugins: Plugin objects or modules besides the installed ones.
        ops: The operations to open; None: every one that is offered.
        progress: Called with the id of each candidate that is about to be proved.

    Raises:
        ConfigError: The configuration names what does not exist.
        UnknownOperation: ``ops`` does.
    """

    def __init__(
        self,
        config: Given = None,
        *,
        plugins: Sequence[Any] = (),
        ops: Iterable[str] | None = None,
        progress: Callable[[str], None] = lambda id: None,
    ) -> None:
        started = time.perf_counter()
        self._pid = os.getpid()
        self._plugins = tuple(plugins)
        self._only = None if ops is None else tuple(ops)
        self._progress = progress
        self._events = Events()
        self._steward = Steward()
        self._lanes = Lanes()
        self._warden = Warden(self._events, self._steward)
        self._lock = threading.Lock()
        self._reloading = threading.Lock()
        self._closed = False
        self._bound: dict[tuple[str, str | None, float | None], BoundOperation[..., Any]] = {}
        self._dispatchers: dict[str, Dispatcher] = {}
        self._now: _Negotiated
        self._install(self._negotiated(load(config)))
        _RUNTIMES.add(self)
        emit(
            logging.INFO,
            "runtime.started",
            ops=self._serving(),
            seconds=round(time.perf_counter() - started, 3),
        )

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self.loaded.config

    @property
    def loaded(self) -> Loaded:
        """The configuration in force, and where each value came from."""
        return self._now.loaded

    @property
    def registry(self) -> Registry:
        """What is offered."""
        return self._now.negotiation.registry

    @property
    def inventory(self) -> Inventory:
        """The devices."""
        return self._now.negotiation.inventory

    @property
    def ledger(self) -> Ledger:
        """The certificates on disk."""
        return self._now.negotiation.ledger

    @property
    def negotiation(self) -> Negotiation:
        """What certifies candidates and decides between them."""
        return self._now.negotiation

    @overload
    def op(
        self, op: Operation[P, R], *, require: str | None = None, deadline_s: float | None = None
    ) -> BoundOperation[P, R]: ...

    @overload
    def op(
        self, op: str, *, require: str | None = None, deadline_s: float | None = None
    ) -> BoundOperation[..., Any]: ...

    def op(
        self, op: str | Operation[..., Any], *, require: str | None = None, deadline_s: float | None = None
    ) -> BoundOperation[..., Any]:
        """The callable of an operation. It stays valid when the configuration is reloaded.

        Args:
            op: Its name, or the operation itself.
            require: A name or pattern: this implementation or an error.
            deadline_s: The longest that a kernel may take before the next one is asked.

        Raises:
            UnknownOperation: No plugin offers it.
            NoImplementation: Nothing may serve it, with every reason.
        """
        name = op if isinstance(op, str) else op.name
        self._check_open()
        key = (name, require, deadline_s)
        bound = self._bound.get(key)
        if bound is None:
            dispatcher = self._dispatcher_of(name)
            _check_servable(dispatcher, require)
            bound = BoundOperation(dispatcher, require=require, deadline_s=deadline_s)
            with self._lock:
                if len(self._bound) >= BOUND:
                    self._bound.clear()
                bound = self._bound.setdefault(key, bound)
        return bound

    def run(self, op: str | Operation[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Serve one request: the same as ``rt.op(op)(...)``."""
        return self.op(op)(*args, **kwargs)

    def submit(self, op: str | Operation[..., Any], *args: Any, **kwargs: Any) -> Future[Any]:
        """Serve one request in the background; requests may share the blocks of an item kernel.

        The arrays are read until the future is done. What is wrong with the request is raised by the future.

        Raises:
            Overloaded: The queue of the operation is full.
        """
        return self.op(op).submit(*args, **kwargs)

    def map(self, op: str | Operation[..., Any], inputs: Iterable[Any], **kwargs: Any) -> Iterator[Any]:
        """The results for many inputs, in their order, with some requests under way at a time.

        Args:
            op: The operation.
            inputs: One array for each request, or a tuple of arrays. Taken as they are needed.
            kwargs: Parameters of every request.
        """
        return _in_order(self.op(op), inputs, kwargs, min(LOOK_AHEAD, self.config.queue.limit))

    def explain(self, op: str | Operation[..., Any]) -> Decision:
        """The candidates of an operation, each with its verdict and reasons."""
        return self._dispatcher_of(op if isinstance(op, str) else op.name).roster.slate.decision

    def health(self) -> dict[str, Any]:
        """Who serves, who is in quarantine and why, as plain data."""
        return report.health(self._dispatchers)

    def metrics(self) -> dict[str, Any]:
        """What ran, how often and how fast, as plain data. See docs/serving.md."""
        return report.metrics(self._dispatchers)

    def summary(self) -> str:
        """Print the metrics for people; the text is returned too."""
        text = report.summary(self._dispatchers)
        print(text)
        return text

    def on(self, event: str, callback: Callback) -> None:
        """Call back at a run-time event ("kernel.failed", ...; "*": all) with its fields."""
        self._events.on(event, callback)

    def replay(self, path: str | os.PathLike[str]) -> list[capture.Outcome]:
        """Run a captured input on every implementation, each held against the reference.

        Raises:
            AssayError: The file is no captured input, or is one of another version of the operation.
        """
        self._check_open()
        captured = capture.load(Path(path))
        return capture.replay(self._dispatcher_of(captured.op).roster, captured)

    def reload(self, config: Given = None) -> None:
        """Decide anew by another configuration while traffic runs.

        Everything is negotiated and opened before anything changes; then each operation changes at once.
        Counters and quarantines stay, kernels that are the same stay open, bound operations stay valid.

        Raises:
            ConfigError, UnknownOperation: The configuration cannot be; everything stays as it was.
        """
        self._check_open()
        with self._reloading:
            negotiated = self._negotiated(load(config))
            with self._lock:
                self._check_open()
                before, gone = self._now, self._install(negotiated)
        for server in gone:
            server.retire(CLOSING_S)
        if before.negotiation.inventory is not self.inventory:
            before.negotiation.inventory.close()

    def _negotiated(self, loaded: Loaded) -> _Negotiated:
        """Decide who serves; nothing of this runtime changes."""
        config = loaded.config
        registry = discover(
            autoload=config.plugins.autoload,
            allow=config.plugins.allow,
            deny=config.plugins.deny,
            live=self._plugins,
            builtin={"xrt": XrtPlugin(config.kernels.paths)},
        )
        _log_plugins(registry)
        _check_names(loaded, registry)
        held = {s.candidate.id: s for d in self._dispatchers.values() for s in d.roster.servers}
        negotiation = _Negotiation(
            registry=registry,
            inventory=self._inventory(config, registry),
            config=config,
            prover=Prover(
                {
                    "plugins": config.plugins.model_dump(mode="json"),
                    "kernels": [str(path) for path in config.kernels.paths],
                    "devices": {kind: dict(settings) for kind, settings in config.devices.items()},
                },
                config.proof.timeout_s,
            ),
            ledger=Ledger(config.proof.ledger),
            sources=dict(loaded.sources),
            threads=config.threads or usable_cores(),
            progress=self._progress,
            held=held,
        )
        names = sorted(registry.operations) if self._only is None else self._only
        try:
            slates = negotiation.negotiate_all(names)
        finally:
            negotiation.prover.close()
            negotiation.held = {}
        return _Negotiated(loaded, negotiation, slates)

    def _inventory(self, config: Config, registry: Registry) -> Inventory:
        """The devices: the same ones, already open, as long as their settings are the same."""
        if not self._dispatchers:
            return Inventory(registry.drivers, config.devices)
        same = (
            config.devices == self.config.devices and registry.drivers.keys() == self.registry.drivers.keys()
        )
        return self.inventory if same else Inventory(registry.drivers, config.devices)

    def _install(self, negotiated: _Negotiated) -> list[Server]:
        """Serve from new decisions from now on; returns the servers that nobody will ask again."""
        gone: list[Server] = []
        dispatchers = {}
        config, load_kernel = negotiated.loaded.config, negotiated.negotiation.load_of
        for name, slate in negotiated.slates.items():
            dispatcher = self._dispatchers.get(name)
            if dispatcher is None:
                dispatchers[name] = Dispatcher(
                    slate,
                    config,
                    load_kernel(slate.op),
                    events=self._events,
                    lanes=self._lanes,
                    steward=self._steward,
                    warden=self._warden,
                )
            else:
                dispatchers[name] = dispatcher
                gone += dispatcher.adopt(slate, config, load_kernel(slate.op))
        for name in self._dispatchers.keys() - dispatchers.keys():
            self._dispatchers[name].shut(UnknownOperation(f"no plugin offers {name!r} since the last reload"))
            self._bound = {key: bound for key, bound in self._bound.items() if key[0] != name}
            gone += self._dispatchers[name].roster.servers
        self._now, self._dispatchers = negotiated, dispatchers
        self._warden.put_in_charge(dispatchers, negotiated.negotiation)
        return gone

    def _dispatcher_of(self, name: str) -> Dispatcher:
        if name in self._dispatchers:
            return self._dispatchers[name]
        self.registry.operation(name)
        raise NoImplementation(f"{name} was not opened: this runtime was given ops={list(self._dispatchers)}")

    def _check_open(self) -> None:
        if os.getpid() != self._pid:
            raise _forked(self._pid)
        if self._closed:
            raise _closed()

    def close(self) -> None:
        """Finish what runs, cancel what is queued, let everything go. May be called more than once."""
        if os.getpid() != self._pid:
            return  # a child touches neither the threads nor the handles of its parent
        with self._lock:
            if self._closed:
                return
            self._closed = True
        dispatchers = self._dispatchers.values()
        for dispatcher in dispatchers:
            dispatcher.queue.close(CLOSING_S)
        for dispatcher in dispatchers:
            dispatcher.shut(_closed())
        self._steward.close()
        for dispatcher in dispatchers:
            dispatcher.close(CLOSING_S)
        self._lanes.close()
        self.inventory.close()

    def _forked(self) -> None:
        for dispatcher in self._dispatchers.values():
            dispatcher.shut(_forked(self._pid))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<assay.Runtime {self._serving()}{' (closed)' if self._closed else ''}>"

    def _serving(self) -> str:
        decisions = {name: d.roster.slate.decision for name, d in self._dispatchers.items()}
        return ", ".join(f"{name}={decision.chosen}" for name, decision in decisions.items())


@dataclass(slots=True)
class _Negotiation(Negotiation):
    """A negotiation that keeps the kernels which are open already, so that no device is opened twice."""

    held: Mapping[str, Server] = field(default_factory=dict)

    def load(self, op: Operation[Any, Any], candidate: Candidate) -> Kernel:
        server = self.held.get(candidate.id)
        if server is not None and server.same_kernel(candidate):
            kernel = server.kernel
            if kernel is not None and kernel.op is op:
                return kernel
        return Negotiation.load(self, op, candidate)

    def load_of(self, op: Operation[Any, Any]) -> Callable[[Candidate], Kernel]:
        """How a server of this operation gets its kernel."""
        return lambda candidate: self.load(op, candidate)


@dataclass(frozen=True, slots=True)
class _Negotiated:
    """A configuration and what came of it, ready to be installed."""

    loaded: Loaded
    negotiation: _Negotiation
    slates: Mapping[str, Slate]


def _in_order(
    bound: BoundOperation[..., Any], inputs: Iterable[Any], kwargs: Mapping[str, Any], ahead: int
) -> Iterator[Any]:
    under_way: deque[Future[Any]] = deque()
    try:
        for given in inputs:
            args = given if isinstance(given, tuple) else (given,)
            if len(under_way) >= ahead:
                yield under_way.popleft().result()
            try:
                under_way.append(bound.submit(*args, **kwargs))
            except Overloaded:  # others fill the queue: this thread works itself, which slows it down
                under_way.append(_done(bound, args, kwargs))
        while under_way:
            yield under_way.popleft().result()
    finally:
        for future in under_way:
            future.cancel()


def _done(bound: BoundOperation[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Future[Any]:
    future: Future[Any] = Future()
    try:
        future.set_result(bound(*args, **kwargs))
    except Exception as error:  # noqa: BLE001  # it is raised where its turn comes
        future.set_exception(error)
    return future


def _closed() -> AssayError:
    return AssayError("this runtime is closed; open another one")


def _forked(pid: int) -> ForkedRuntime:
    return ForkedRuntime(
        f"this runtime was opened by process {pid}; open a runtime in the child, after forking"
    )


_RUNTIMES: weakref.WeakSet[Runtime] = weakref.WeakSet()


def _mark_forked() -> None:
    for runtime in list(_RUNTIMES):
        runtime._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_mark_forked)


def _check_servable(dispatcher: Dispatcher, require: str | None) -> None:
    roster = dispatcher.roster
    decision = roster.slate.decision
    if require is None:
        if not roster.servers:
            raise NoImplementation(f"nothing can serve\n{decision}", decision)
        return
    ids = [candidate.id for candidate in decision.candidates]
    if not any(selects(require, id) for id in ids):
        names = [id.split(".", 1)[1] for id in ids]
        raise NoImplementation(
            f"{roster.op.name} has no implementation {require!r}: {near(require, names)}", decision
        )
    if not any(selects(require, server.candidate.id) for server in roster.servers):
        raise NoImplementation(f"required {require!r} may not serve\n{decision}", decision)


def _log_plugins(registry: Registry) -> None:
    for plugin in registry.plugins:
        fields = {"plugin": plugin.name, "distribution": str(plugin.distribution)}
        for problem in plugin.problems:
            emit(logging.WARNING, "plugin.failed", **fields, error=problem)
        if not plugin.problems and not plugin.skipped:
            emit(logging.INFO, "plugin.loaded", **fields, offers=len(plugin.offers))


def _check_names(loaded: Loaded, registry: Registry) -> None:
    """Every operation and implementation that the configuration names must be offered by somebody."""
    for op, demand in loaded.config.ops.items():
        if op not in registry.operations:
            source = next(
                (s for key, s in loaded.sources.items() if key.startswith(f"ops.{op}.")), "the program"
            )
            raise ConfigError(
                f"{source}: unknown operation {op!r} in ops.{op}: {near(op, registry.operations)}"
            )
        ids = [implementation.id for implementation, _ in registry.offers if implementation.op == op]
        given = {
            "prefer": demand.prefer,
            "deny": demand.deny,
            "require": [demand.require] if demand.require else [],
        }
        for key, patterns in given.items():
            for pattern in patterns:
                if not is_pattern(pattern) and not any(selects(pattern, id) for id in ids):
                    source = loaded.sources.get(f"ops.{op}.{key}", "the program")
                    names = [id.split(".", 1)[1] for id in ids]
                    hint = near(pattern, names)
                    raise ConfigError(
                        f"{source}: ops.{op}.{key} names {pattern!r}, which nobody offers: {hint}"
                    )
