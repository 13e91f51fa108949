"""An operation bound to who serves it: the callable that programs hold."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from numpy import empty, ndarray, vdot

from assay.contract.operation import Array
from assay.negotiation.kernel import check_result
from assay.scheduler.dispatcher import check_out
from assay.scheduler.route import Route
from assay.scheduler.signature import bind

if TYPE_CHECKING:
    from assay.contract.operation import Operation
    from assay.scheduler.dispatcher import Dispatcher

P = ParamSpec("P")
R = TypeVar("R")

ROUTES = 1024
"""Signatures that are remembered; beyond, all are forgotten and found again."""


class BoundOperation(Generic[P, R]):
    """Call it as the operation is called. Any thread may.

    Raises:
        InvalidInput: The arguments do not fit the operation.
        NoImplementation: No implementation takes this signature.
        OperationFailed: Every implementation that takes it failed.
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
        self._deadline_s = deadline_s if deadline_s is not None else dispatcher.policy.deadline_s
        self._routes: dict[Any, Route] = {}
        self._single: dict[tuple[int, ...], Route] = {}
        self._closed: Exception | None = None
        self.__doc__ = dispatcher.op.signature.__doc__
        dispatcher.listeners.append(self.forget)

    @property
    def operation(self) -> Operation[P, R]:
        """The operation's contract."""
        return self._dispatcher.op

    @property
    def serving(self) -> str | None:
        """The id of the implementation that serves now."""
        server = self._dispatcher.chosen()
        return server.candidate.id if server else None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Serve one request."""
        # The way of a signature seen before that needs nothing but the call: one look-up.
        if len(args) == 1 and not kwargs:
            array = args[0]
            if type(array) is ndarray:
                route = self._single.get(array.shape)
                if route is not None and array.dtype is route.dtype:
                    flags = array.flags
                    if flags.c_contiguous and flags.aligned:
                        return self._hot(route, array)
        return self._general(args, kwargs)

    def _hot(self, route: Route, array: Array) -> R:
        start = perf_counter()
        try:
            if route.gives_out:
                result = route.call(array, out=empty(route.shape, route.result), **route.params)
            else:
                result = route.call(array, **route.params)
            elapsed = perf_counter() - start
            if type(result) is not ndarray or result.shape != route.shape or result.dtype is not route.result:
                check_result(result, route.shape, route.result)
            if not route.small:
                route.legs[0].guard(result, (array,), elapsed)
            elif not _small_finite(result):
                route.legs[0].guard(result, (array,), 0.0)
        except Exception as error:  # noqa: BLE001  # a kernel may raise anything
            return self._dispatcher.serve(route, route.gather((array,), {}), None, None, error)  # type: ignore[return-value]
        counters = route.counters
        counters.calls += 1
        counters.seconds += elapsed
        counters.work += route.work
        return result  # type: ignore[no-any-return]  # R is what the operation returns

    def _general(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
        out = kwargs.pop("out", None)
        key = _key(args, kwargs)
        route = None if key is None else self._routes.get(key)
        if route is None:
            if self._closed is not None:
                raise self._closed
            inputs, params = bind(self._dispatcher.op, args, kwargs)
            route = self._dispatcher.route(inputs, params, self._require)
            if key is not None and all(
                array is None or array.dtype.isnative for array in _arrays(args, kwargs)
            ):
                self._remember(key, route, args, kwargs)
        else:
            inputs = route.gather(args, kwargs)
        if out is not None:
            out = check_out(self._dispatcher.op, out, route.spec)
        return self._dispatcher.serve(route, inputs, out, self._deadline_s)  # type: ignore[return-value]

    def _remember(self, key: Any, route: Route, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if len(self._routes) >= ROUTES:
            self.forget()
        self._routes[key] = route
        if len(args) == 1 and not kwargs and self._deadline_s is None and route.make_hot():
            self._single[args[0].shape] = route

    def forget(self) -> None:
        """Find every way again: the serving order has changed."""
        self._routes = {}
        self._single = {}

    def shut(self, reason: Exception) -> None:
        """Answer every call from now on with an error."""
        self._closed = reason
        self.forget()

    def __repr__(self) -> str:
        return f"<assay operation {self._dispatcher.op.name}: {self.serving or 'nothing serves'}>"


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
        elif value is None or type(value) in (bool, int, float, str):
            key.append((name, type(value), value))
        else:
            return None
    return tuple(key)


def _arrays(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Array]:
    return [value for value in (*args, *kwargs.values()) if type(value) is ndarray]


def _small_finite(array: Array) -> bool:
    square = float(vdot(array, array))
    return square - square == 0.0
