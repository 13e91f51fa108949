"""Opens everything, holds the bound operations, closes everything."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ParamSpec, Self, TypeVar, overload

from assay.config import Config, Loaded, load
from assay.contract.candidate import Decision
from assay.contract.errors import AssayError, ConfigError, ForkedRuntime, NoImplementation
from assay.contract.log import emit
from assay.contract.naming import is_pattern, near, selects
from assay.contract.operation import Operation
from assay.devices.cpu import usable_cores
from assay.devices.inventory import Inventory
from assay.devices.xrt.offers import XrtPlugin
from assay.negotiation.ledger import Ledger
from assay.negotiation.negotiate import Negotiation
from assay.negotiation.proof import ProofFailed, prove
from assay.negotiation.prover import Prover, within
from assay.registry import Registry, discover
from assay.scheduler.bound import BoundOperation
from assay.scheduler.dispatcher import Dispatcher
from assay.scheduler.events import Callback, Events
from assay.scheduler.server import Server
from assay.scheduler.steward import Steward

P = ParamSpec("P")
R = TypeVar("R")

Given = Config | Mapping[str, Any] | str | os.PathLike[str] | None


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
        self._lock = threading.RLock()
        self._closed = False
        self._bound: dict[tuple[str, str | None, float | None], BoundOperation[..., Any]] = {}
        self._open(load(config))
        _RUNTIMES.add(self)
        emit(
            logging.INFO,
            "runtime.started",
            ops=", ".join(f"{name}={d.slate.decision.chosen}" for name, d in self._dispatchers.items()),
            seconds=round(time.perf_counter() - started, 3),
        )

    def _open(self, loaded: Loaded) -> None:
        config = loaded.config
        self.loaded = loaded
        self.registry = discover(
            autoload=config.plugins.autoload,
            allow=config.plugins.allow,
            deny=config.plugins.deny,
            live=self._plugins,
            builtin={"xrt": XrtPlugin(config.kernels.paths)},
        )
        _log_plugins(self.registry)
        _check_names(loaded, self.registry)
        self.inventory = Inventory(self.registry.drivers, config.devices)
        self.ledger = Ledger(config.proof.ledger)
        self._prover = Prover(
            {
                "plugins": config.plugins.model_dump(mode="json"),
                "kernels": [str(path) for path in config.kernels.paths],
                "devices": {kind: dict(settings) for kind, settings in config.devices.items()},
            },
            config.proof.timeout_s,
        )
        self._negotiation = Negotiation(
            registry=self.registry,
            inventory=self.inventory,
            config=config,
            prover=self._prover,
            ledger=self.ledger,
            sources=dict(loaded.sources),
            threads=config.threads or usable_cores(),
            progress=self._progress,
        )
        names = sorted(self.registry.operations) if self._only is None else self._only
        try:
            self._dispatchers = {name: self._dispatcher(name) for name in names}
        finally:
            self._prover.close()

    def _dispatcher(self, name: str) -> Dispatcher:
        slate = self._negotiation.negotiate(name)
        dispatcher = Dispatcher(slate, self.loaded.config, self._negotiation.load, self._events)
        dispatcher.on_quarantine = lambda server: self._steward.at(
            server.until, lambda: self._probe_again(dispatcher, server)
        )
        return dispatcher

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self.loaded.config

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
        """The callable of an operation.

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
        dispatcher = self._dispatcher_of(name)
        key = (name, require, deadline_s)
        with self._lock:
            if key not in self._bound:
                _check_servable(dispatcher, require)
                self._bound[key] = BoundOperation(dispatcher, require=require, deadline_s=deadline_s)
            return self._bound[key]

    def run(self, op: str, *args: Any, **kwargs: Any) -> Any:
        """Serve one request: the same as ``rt.op(op)(...)``."""
        return self.op(op)(*args, **kwargs)

    def explain(self, op: str) -> Decision:
        """The candidates of an operation, each with its verdict and reasons."""
        return self._dispatcher_of(op).slate.decision

    def on(self, event: str, callback: Callback) -> None:
        """Call back at a run-time event ("kernel.failed", ...; "*": all) with its fields."""
        self._events.on(event, callback)

    def _dispatcher_of(self, name: str) -> Dispatcher:
        if name in self._dispatchers:
            return self._dispatchers[name]
        self.registry.operation(name)
        raise NoImplementation(f"{name} was not opened: this runtime was given ops={list(self._dispatchers)}")

    def _check_open(self) -> None:
        if os.getpid() != self._pid:
            raise _forked(self._pid)
        if self._closed:
            raise AssayError("this runtime is closed; open another one")

    def _probe_again(self, dispatcher: Dispatcher, server: Server) -> None:
        """Let a quarantined implementation pass its probes, off everybody's path."""
        config = self.config.proof
        try:
            within(lambda: prove(server.ready()), config.timeout_s, "probing it again")
        except ProofFailed as failure:
            dispatcher.keep_out(server, failure.message)
        except Exception as error:  # noqa: BLE001  # a kernel may raise anything
            dispatcher.keep_out(server, f"{type(error).__name__}: {error}")
        else:
            dispatcher.readmit(server)

    def close(self) -> None:
        """Finish or cancel what is queued and let everything go. May be called more than once."""
        if os.getpid() != self._pid:
            return  # a child touches neither the threads nor the handles of its parent
        with self._lock:
            if self._closed:
                return
            self._closed = True
            bound = list(self._bound.values())
        for operation in bound:
            operation.shut(AssayError("this runtime is closed; open another one"))
        self._steward.close()
        for dispatcher in self._dispatchers.values():
            dispatcher.close()
        self.inventory.close()

    def _forked(self) -> None:
        for operation in self._bound.values():
            operation.shut(_forked(self._pid))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        serving = ", ".join(f"{name}={d.slate.decision.chosen}" for name, d in self._dispatchers.items())
        return f"<assay.Runtime {serving}{' (closed)' if self._closed else ''}>"


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
    decision = dispatcher.slate.decision
    if require is None:
        if not dispatcher.servers:
            raise NoImplementation(f"nothing can serve\n{decision}", decision)
        return
    ids = [candidate.id for candidate in decision.candidates]
    if not any(selects(require, id) for id in ids):
        names = [id.split(".", 1)[1] for id in ids]
        raise NoImplementation(
            f"{dispatcher.op.name} has no implementation {require!r}: {near(require, names)}", decision
        )
    if not any(selects(require, server.candidate.id) for server in dispatcher.servers):
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
