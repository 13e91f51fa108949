"""An operation bound to who serves it: the callable that programs hold."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from numpy import ndarray

from assay.contract.errors import AssayError, InvalidInput
from assay.contract.naming import selects
from assay.contract.operation import Array, Arrays, Operation, Spec
from assay.scheduler.hot import Hot, shortest
from assay.scheduler.route import Route
from assay.scheduler.signature import bind

if TYPE_CHECKING:
    from assay.scheduler.dispatcher import Dispatcher

P = ParamSpec("P")
R = TypeVar("R")

ROUTES = 1024
"""Signatures that are remembered; beyond, all are forgotten and found again."""

PLAIN = (bool, int, float, str, type(None))
"""Types of parameters by which a route is remembered."""

Shape = tuple[Any, ...]
"""The shape of the one array that a request brings by position, or those of several."""


class _Memory:
    """The routes that were found since the serving order last changed. Replaced as a whole.

    So a route that was found before the change and is remembered after it goes where nobody looks.
    """

    __slots__ = ("hot", "keyed", "plain", "routes")

    def __init__(self) -> None:
        self.routes: dict[Any, Route] = {}
        self.plain: dict[Shape, Route] = {}
        """The routes of one array and nothing else."""
        self.hot: dict[Shape, Hot] = {}
        self.keyed: dict[Shape, list[tuple[dict[str, Any], list[type] | None, Hot]]] = {}
        """The parameters given; their types, where one of them equals one of another type (1 and True)."""

    def keyed_hot(self, shape: Shape, kwargs: dict[str, Any]) -> Hot | None:
        """The way of a shape with parameters."""
        try:
            for given, types, hot in self.keyed.get(shape, ()):
                if given == kwargs and (types is None or types == [*map(type, kwargs.values())]):
                    return hot
        except ValueError:  # an array among them, which is not simply equal or not
            pass
        return None


class BoundOperation(Generic[P, R]):
    """Call it as the operation is called. Any thread may.

    Raises:
        InvalidInput: The arguments do not fit the operation.
        NoImplementation: No implementation takes this signature.
        OperationFailed: Every implementation that takes it failed.
        DeadlineExceeded: None of them answered in time.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        *,
        require: str | None = None,
        deadline_s: float | None = None,
    ) -> None:
        self._dispatcher = dispatcher
        self._require = require
        self._deadline_s = deadline_s
        self._closed: AssayError | None = None
        self.forget()
        self.__doc__ = dispatcher.op.signature.__doc__
        dispatcher.bind(self)

    @property
    def operation(self) -> Operation[P, R]:
        """The operation's contract."""
        return self._dispatcher.op

    @property
    def serving(self) -> str | None:
        """The id of the implementation that serves now, among those that were required."""
        active = (server.candidate.id for server in self._dispatcher.roster.active)
        return next((id for id in active if self._require is None or selects(self._require, id)), None)

    if TYPE_CHECKING:

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
            """Serve one request."""

    else:

        def __call__(self, array=None, /, *rest, **kwargs):
            """Serve one request."""
            if type(array) is ndarray:
                shape = array.shape
                if rest:
                    shape = (shape, *[a.shape if type(a) is ndarray else None for a in rest])
                hot = self._keyed_hot(shape, kwargs) if kwargs else self._hot(shape)
                if hot is not None:
                    result = hot(array, *rest) if rest else hot(array)
                    if result is not None:
                        return result
            route, inputs, out = self.find(() if array is None else (array, *rest), kwargs)
            return self._dispatcher.serve(route, inputs, out, self.deadline_of(route))

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Serve one request in the background, in one batch with others where the kernel likes that.

        What is wrong with the request, and what goes wrong with it, is raised by the future's ``result()``.

        Raises:
            Overloaded: The queue of this operation is full.
            AssayError: The runtime is closed.
        """
        if self._closed is not None:
            raise self._closed
        return self._dispatcher.queue.submit(self, args, kwargs)

    def find(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Route, Arrays, Array | None]:
        """The way of a request: one look-up, if its signature was seen before.

        Raises:
            InvalidInput: The arguments do not fit the operation.
            NoImplementation: No implementation takes this signature.
        """
        memory = self.memory
        if len(args) == 1 and not kwargs and type(args[0]) is ndarray:
            route = memory.plain.get(args[0].shape)
            if route is not None and route.dtype is args[0].dtype:
                return route, (*args, *route.absent), None
        out = kwargs.pop("out", None)
        key = _key(args, kwargs)
        route = None if key is None else memory.routes.get(key)
        if route is not None:
            inputs = route.gather(args, kwargs)
        else:
            if self._closed is not None:
                raise self._closed
            roster = self._dispatcher.roster
            inputs, params = bind(roster.op, args, kwargs)
            route = roster.route(inputs, params, self._require)
            loaded = route.legs[0].server.kernel is not None  # once it is, there may be a shorter way
            if key is not None and loaded and _native(args) and _native(kwargs.values()):
                self._remember(memory, key, route, args, kwargs)
        if out is not None:
            check_out(self._dispatcher.op.name, out, route.spec)
        return route, inputs, out

    def deadline_of(self, route: Route) -> float | None:
        """The deadline of a request: as bound, else as configured when its route was found."""
        return route.policy.deadline_s if self._deadline_s is None else self._deadline_s

    def forget(self) -> None:
        """Find every way again: the serving order has changed."""
        self.memory = _Memory()
        self._hot, self._keyed_hot = self.memory.hot.get, self.memory.keyed_hot

    def shut(self, reason: AssayError) -> None:
        """Answer every call from now on with an error."""
        self._closed = reason
        self.forget()

    def _remember(
        self, memory: _Memory, key: Any, route: Route, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        if len(memory.routes) >= ROUTES:
            self.forget()
            return
        memory.routes[key] = route
        if len(args) == 1 and not kwargs:
            memory.plain[args[0].shape] = route
        types = [*map(type, kwargs.values())]
        if len(args) != len(route.op.required) or ndarray in types or self.deadline_of(route) is not None:
            return
        hot = shortest(route, tuple(array.dtype for array in args), self._dispatcher.serve_failed)
        if hot is None:
            return
        shapes = tuple(array.shape for array in args)
        shape = shapes if len(shapes) > 1 else shapes[0]
        if kwargs:
            alike = any(value in (0, 1) for value in kwargs.values())
            memory.keyed.setdefault(shape, []).append((dict(kwargs), types if alike else None, hot))
        else:
            memory.hot[shape] = hot

    def __repr__(self) -> str:
        return f"<assay operation {self._dispatcher.op.name}: {self.serving or 'nothing serves'}>"


def check_out(op: str, out: Any, spec: Spec) -> None:
    """See whether a result fits in the caller's ``out``.

    Raises:
        InvalidInput: It does not.
    """
    if not isinstance(out, ndarray) or out.shape != spec.shape or out.dtype != spec.dtype:
        found = f"{out.dtype} {out.shape}" if isinstance(out, ndarray) else type(out).__name__
        raise InvalidInput(f"{op}: out is {found}, expected an array of {spec.dtype} {spec.shape}")
    if not out.flags.writeable:
        raise InvalidInput(f"{op}: out is read-only, expected a writable array")


def _key(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What a route is remembered by; None where an argument is no plain array or cannot be remembered."""
    key: list[Any] = []
    for array in args:
        if type(array) is not ndarray:
            return None
        key.append((array.dtype, array.shape))
    for name, value in kwargs.items():
        if type(value) is ndarray:
            key.append((name, value.dtype, value.shape))
        elif type(value) in PLAIN:
            key.append((name, type(value), value))
        else:
            return None
    return tuple(key)


def _native(values: Any) -> bool:
    return all(value.dtype.isnative for value in values if type(value) is ndarray)
