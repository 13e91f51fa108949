"""The shortest way of a signature: arrays in, the first plan's own function, one array out.

Everything that is known once the route is found is bound in a function made for it. What remains for a call
is to see that the arrays are those the route was found for, to run the kernel, to check its result, to count.
The function is made from source, as dataclasses make theirs: the interpreter passes spelled-out arguments
several times faster than it unpacks a tuple and a mapping. All names come from the operation's signature.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from time import perf_counter
from typing import Any

import numpy as np
from numpy import asarray, empty, ndarray

from assay.contract.operation import Array, Arrays
from assay.negotiation.kernel import check_result
from assay.scheduler.route import Route, refuse_forbidden
from assay.scheduler.server import Gate, Retired

Hot = Callable[..., Array | None]
"""The result; None for arrays of another dtype or layout than this way is for."""

Fail = Callable[[Route, Arrays, BaseException], Array]

SOURCE = """
def make({names}):
    def hot({arrays}):
        if {strange}:
            return None
        if forbids:
            refuse_forbidden(op, {inputs})
        start = perf_counter()
        try:
            {run}
            elapsed = perf_counter() - start
            if type(result) is not ndarray or result.shape != shape or result.dtype is not dtype:
                check_result(result, shape, dtype)
                result = asarray(result)
            if look is None or not look(result):
                guard(result, {inputs}, elapsed)
        except BaseException as error:
            return fail(route, {inputs}, error)
        counters.calls += 1
        counters.seconds += elapsed
        counters.work += work
        return result
    return hot
"""

RUN = "result = call({arguments})"

RUN_INSIDE = """inside.append(None)
            try:
                if gate.closed:
                    raise Retired
                result = call({arguments})
            finally:
                inside.pop()"""

TOOLS = {
    "ndarray": ndarray,
    "asarray": asarray,
    "empty": empty,
    "perf_counter": perf_counter,
    "check_result": check_result,
    "refuse_forbidden": refuse_forbidden,
    "Retired": Retired,
}


def shortest(route: Route, dtypes: tuple[np.dtype[Any], ...], fail: Fail) -> Hot | None:
    """The function for a route whose first plan can be called with the caller's arrays and nothing else.

    Args:
        route: The checked signature, of a request that brings the required arrays by position and no other.
        dtypes: Theirs.
        fail: Serves a request whose first plan has raised.
    """
    leg, op = route.legs[0], route.op
    kernel = leg.server.kernel
    if kernel is None or not kernel.whole or leg.dtype is not None or route.watched:
        return None
    gate = kernel.turn if isinstance(kernel.turn, Gate) else None
    given = op.keywords((None,) * len(op.inputs), route.params)
    known = {
        "op": op,
        "route": route,
        "call": kernel.call if gate is None or not gate.exclusive else through(gate, kernel.call),
        "gate": gate,
        "inside": None if gate is None else gate.inside,
        "forbids": leg.forbids,
        "shape": leg.spec.shape,
        "dtype": leg.spec.dtype,
        "look": leg.look,
        "guard": leg.guard,
        "fail": fail,
        "counters": leg.server.candidate.counters,
        "work": leg.work,
        **{f"dtype{i}": dtype for i, dtype in enumerate(dtypes)},
        **{f"_{name}": value for name, value in given.items()},
    }
    shared = gate is not None and not gate.exclusive
    make = _maker(len(dtypes), len(op.optional), tuple(given), kernel.gives_out, shared, tuple(known))
    return make(**known)  # type: ignore[no-any-return]  # what the source gives has no type


@cache
def _maker(
    arrays: int, absent: int, given: tuple[str, ...], gives_out: bool, shared: bool, names: tuple[str, ...]
) -> Callable[..., Any]:
    """What makes the function for every route that looks like this one: source is compiled once."""
    required = [f"array{i}" for i in range(arrays)]
    odd = "type({0}) is not ndarray or {0}.dtype is not dtype{1} or not ({0}.flags.carray or plain({0}))"
    arguments = [*required, *(f"{name}=_{name}" for name in given)]
    if gives_out:
        arguments.append("out=empty(shape, dtype)")
    source = SOURCE.format(
        names=", ".join(names),
        arrays=", ".join(required),
        strange=" or ".join(odd.format(name, i) for i, name in enumerate(required)),
        inputs=f"({', '.join([*required, *['None'] * absent])},)",
        run=(RUN_INSIDE if shared else RUN).format(arguments=", ".join(arguments)),
    )
    scope: dict[str, Any] = {**TOOLS, "plain": _plain}
    exec(compile(source, f"<assay: {arrays} arrays, {', '.join(given)}>", "exec"), scope)
    return scope["make"]  # type: ignore[no-any-return]  # as above


def through(gate: Gate, call: Callable[..., Any]) -> Callable[..., Any]:
    """A call that waits for its turn."""

    def in_turn(*args: Any, **keywords: Any) -> Any:
        with gate:
            return call(*args, **keywords)

    return in_turn


def _plain(array: Array) -> bool:
    flags = array.flags
    return bool(flags.c_contiguous and flags.aligned)
