"""The shortest way of a signature: one array in, the first plan's own function, one array out.

Everything that is known once the route is found is bound in a closure; what remains for a call is to check
that the array is what the route was found for, to run the kernel, to check its result and to count.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from time import perf_counter
from typing import Any

from numpy import asarray, empty, ndarray

from assay.contract.operation import Array
from assay.negotiation.kernel import Kernel, check_result
from assay.scheduler.route import Route, refuse_forbidden

Hot = Callable[[Array], Array | None]
"""The result; None for an array of another dtype or layout than this way is for."""

Fail = Callable[[Route, Array, BaseException], Array]


def shortest(route: Route, fail: Fail) -> Hot | None:
    """The closure for a route whose first plan can be called with the caller's array and nothing else.

    Args:
        route: The checked signature.
        fail: Serves a request whose first plan has raised.
    """
    leg = route.legs[0]
    kernel = leg.server.kernel
    looked_at_elsewhere = route.policy.shadow_rate > 0 or route.policy.check == "always"
    if kernel is None or not kernel.whole or leg.dtype is not None or looked_at_elsewhere:
        return None
    op, guard, counters, work = route.op, leg.guard, leg.server.candidate.counters, leg.work
    dtype, shape, result_dtype = route.dtype, leg.spec.shape, leg.spec.dtype
    call = _own_function(route, kernel)
    forbids, look, never = leg.forbids, leg.look, leg.check == "never"

    def hot(array: Array) -> Array | None:
        if array.dtype is not dtype or not (array.flags.carray or _plain(array)):
            return None
        if forbids:
            refuse_forbidden(op, (array,))
        start = perf_counter()
        try:
            result = call(array)
            elapsed = perf_counter() - start
            if type(result) is not ndarray or result.shape != shape or result.dtype is not result_dtype:
                check_result(result, shape, result_dtype)
                result = asarray(result)
            if look is not None:
                if not look(result):
                    guard(result, (array,), elapsed)
            elif not never:
                guard(result, (array,), elapsed)
        except BaseException as error:  # noqa: BLE001  # a kernel may raise anything; it is sorted out there
            return fail(route, array, error)
        counters.calls += 1
        counters.seconds += elapsed
        counters.work += work
        return result  # type: ignore[no-any-return]  # checked above

    return hot


def _own_function(route: Route, kernel: Kernel) -> Callable[[Array], Any]:
    """The kernel's own function, with everything but the array filled in.

    The keywords are spelled out in an expression, since the interpreter passes those much faster than it
    unpacks a mapping. They are names of the operation's signature, and so identifiers.
    """
    spec = route.legs[0].spec
    call = kernel.call if kernel.turn is None else _through(kernel.turn, kernel.call)
    values = route.op.keywords((None,) * len(route.op.inputs), route.params)
    spelled = [f"{name}=_{name}" for name in values]
    if kernel.gives_out:
        spelled.append("out=_empty(_shape, _dtype)")
    names = {f"_{name}": value for name, value in values.items()}
    scope = {"_call": call, "_empty": empty, "_shape": spec.shape, "_dtype": spec.dtype, **names}
    parameters, arguments = ", ".join(scope), ", ".join(["_array", *spelled])
    fill_in = eval(f"lambda {parameters}: lambda _array: _call({arguments})")
    return fill_in(**scope)  # type: ignore[no-any-return]  # what eval returns is unknown


def _through(gate: AbstractContextManager[Any], call: Callable[..., Any]) -> Callable[..., Any]:
    def through(array: Array, **keywords: Any) -> Any:
        with gate:
            return call(array, **keywords)

    return through


def _plain(array: Array) -> bool:
    flags = array.flags
    return bool(flags.c_contiguous and flags.aligned)
