"""The shortest way of a signature: arrays in, the first plan's own function, one array out.

Everything that is known once the route is found is bound in a function made for it. What remains for a call
is to see that the arrays are those the route was found for, to run the kernel, to check its result, to count.
The function is made from source, as dataclasses make theirs: the interpreter passes spelled-out arguments
several times faster than it unpacks a tuple and a mapping. All names come from the operation's signature.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from textwrap import indent
from time import perf_counter
from typing import Any

import numpy as np
from numpy import asarray, empty, ndarray

from assay.contract.operation import Array, Arrays
from assay.negotiation.kernel import check_result
from assay.scheduler.finite import always_finite
from assay.scheduler.route import Route, refuse_forbidden
from assay.scheduler.server import Gate, Retired

Hot = Callable[..., Array | None]
"""Takes plain arrays. Returns the result; None for a dtype or layout that this way is not for."""

Fail = Callable[[Route, Arrays, BaseException], Array]

QUICK_S = 20e-6
"""Kernels that take less are timed in one of sixteen calls: reading the clock is much of such a call."""

SOURCE = """
def make({names}):
    often, elapsed = 0, 0.0
    def hot({arrays}):
        nonlocal often, elapsed
        if {strange}:
            return None{refuse}
        try:
            if counters.calls & often:
{run}
            else:
                start = perf_counter()
{run}
                elapsed = perf_counter() - start
                often = 15 if elapsed < QUICK_S else 0
            if type(result) is not ndarray or result.shape != shape or result.dtype is not dtype:
                check_result(result, shape, dtype)
                result = asarray(result){look}
        except BaseException as error:
            return fail(route, {inputs}, error)
        counters.calls += 1
        counters.seconds += elapsed
        counters.work += work
        return result
    return hot
"""

REFUSE = """
        refuse_forbidden(op, {inputs})"""

LOOK = """
            if not look(result):
                guard(result, {inputs}, elapsed)"""

GUARD = """
            guard(result, {inputs}, elapsed)"""

RUN = "result = call({arguments})"

RUN_INSIDE = """\
inside.append(None)
try:
    if gate.closed:
        raise Retired
    result = call({arguments})
finally:
    inside.pop()"""

RUN_ALONE = """\
if not turn(False):
    gate.wait()
inside.append(None)
try:
    if gate.closed:
        raise Retired
    result = call({arguments})
finally:
    inside.pop()
    leave()"""

TOOLS = {
    "QUICK_S": QUICK_S,
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
        "call": kernel.call,
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
    run, look = RUN, LOOK
    if gate is not None:
        run = RUN_ALONE if gate.exclusive else RUN_INSIDE
        known |= {"gate": gate, "inside": gate.inside, "turn": gate.turn, "leave": gate.leave}
    if leg.look is None:
        look = GUARD
    elif leg.look is always_finite:
        look = ""
    make = _maker(
        run,
        REFUSE if leg.forbids else "",
        look,
        len(dtypes),
        len(op.optional),
        tuple(given),
        kernel.gives_out,
        tuple(known),
    )
    return make(**known)  # type: ignore[no-any-return]  # what the source gives has no type


@cache
def _maker(
    run: str,
    refuse: str,
    look: str,
    arrays: int,
    absent: int,
    given: tuple[str, ...],
    gives_out: bool,
    names: tuple[str, ...],
) -> Callable[..., Any]:
    """What makes the function for every route that looks like this one: source is compiled once."""
    required = [f"array{i}" for i in range(arrays)]
    odd = "{0}.dtype is not dtype{1} or not ({0}.flags.carray or plain({0}))"
    arguments = [*required, *(f"{name}=_{name}" for name in given)]
    if gives_out:
        arguments.append("out=empty(shape, dtype)")
    inputs = f"({', '.join([*required, *['None'] * absent])},)"
    source = SOURCE.format(
        names=", ".join(names),
        arrays=", ".join(required),
        strange=" or ".join(odd.format(name, i) for i, name in enumerate(required)),
        refuse=refuse.format(inputs=inputs),
        run=indent(run.format(arguments=", ".join(arguments)), " " * 16),
        look=look.format(inputs=inputs),
        inputs=inputs,
    )
    scope: dict[str, Any] = {**TOOLS, "plain": _plain}
    exec(compile(source, f"<assay: {arrays} arrays, {', '.join(given)}>", "exec"), scope)
    return scope["make"]  # type: ignore[no-any-return]  # as above


def _plain(array: Array) -> bool:
    flags = array.flags
    return bool(flags.c_contiguous and flags.aligned)
