"""A signature's way: the checked terms of a request and the plans that take it, best first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.config import FallbackConfig
from assay.contract.errors import InvalidInput
from assay.contract.operation import Array, Arrays, Operation, Params, Spec, Tolerance
from assay.negotiation.kernel import Kernel
from assay.scheduler.finite import (
    SECONDS_PER_ELEMENT,
    SHARE,
    SMALL,
    Look,
    all_finite,
    always_finite,
    quick_look,
    spread_finite,
)
from assay.scheduler.server import Server


class NonFinite(Exception):
    """A kernel gave NaN or infinities, and the request does not explain them."""


@dataclass(slots=True, eq=False)
class Leg:
    """One plan that takes the signature, and what it does for it.

    ``dtype`` is what the main input is converted to; None: it is taken as it is.
    """

    server: Server
    op: Operation[Any, Any]
    params: Params
    spec: Spec
    """What the kernel returns."""
    promised: Spec
    """What the caller gets."""
    dtype: np.dtype[Any] | None
    work: float
    check: str
    items: int = 1
    item_params: Params = field(default_factory=dict)
    """The parameters as an item kernel gets them."""
    share: object = None
    """What requests have in common whose items may share a block; None: this one shares none."""
    forbids: bool = False
    """Whether values must be looked for that the operation forbids; else the kernel notices them itself."""
    look: Look | None = None
    """The quick look at every value of a small result."""
    turns: int = 0
    """Calls whose result was too large to look at every element."""

    def __post_init__(self) -> None:
        forbids = any(item.finite for item in self.op.inputs)
        self.forbids = forbids and not self.server.candidate.implementation.capabilities.checks_finite
        self.look = always_finite if self.check == "never" else quick_look(self.spec.shape, self.spec.dtype)

    def admit(self, inputs: Arrays) -> None:
        """Look for values that the operation forbids, unless the kernel notices them itself.

        Raises:
            InvalidInput: There is one.
        """
        if self.forbids:
            refuse_forbidden(self.op, inputs)

    def answer(self, inputs: Arrays, out: Array | None = None) -> tuple[Array, float]:
        """The kernel's result for the caller's arrays, and the seconds that it took.

        ``out`` is C-contiguous, aligned, and overlaps no input.

        Raises:
            NonFinite: The result is not finite, and the inputs are.
            Exception: Whatever the kernel raises.
        """
        kernel = self.server.ready()
        prepared = self.prepare(inputs)
        if self.dtype is not None and self.spec.dtype != self.promised.dtype:
            out = None
        start = perf_counter()
        result = kernel.serve(prepared, self.params, self.spec, out)
        elapsed = perf_counter() - start
        self.guard(result, inputs, elapsed)
        return self.as_promised(result), elapsed

    def prepare(self, inputs: Arrays) -> Arrays:
        """The arrays as the kernel wants them: converted, contiguous, aligned."""
        main = inputs[0]
        if self.dtype is None and len(inputs) == 1 and main is not None and main.flags.carray:
            return inputs
        strided = self.server.candidate.implementation.capabilities.strided
        prepared: list[Array | None] = []
        for array in inputs:
            if array is None:
                prepared.append(None)
                continue
            if self.dtype is not None and main is not None and array.dtype == main.dtype:
                with np.errstate(over="ignore"):  # what does not fit is infinite, and is noticed as that
                    array = self.op.convert(array, self.dtype)
            if not strided and not (array.flags.c_contiguous and array.flags.aligned):
                array = np.require(array, requirements=("C", "A"))
            prepared.append(array)
        return tuple(prepared)

    def guard(self, result: Array, inputs: Arrays, elapsed: float) -> None:
        """Look for non-finite values within the budget.

        Raises:
            NonFinite: There is one, and the request does not explain it.
        """
        if self.look is not None and self.look(result):
            return
        size = result.size
        full = self.check == "always" or size <= SMALL or size * SECONDS_PER_ELEMENT <= SHARE * elapsed
        if not full:
            self.turns += 1
            every = int(size * SECONDS_PER_ELEMENT / max(SHARE * elapsed, 1e-9)) + 1
            full = self.turns % every == 0
        good = all_finite(result) if full else spread_finite(result, self.turns)
        if not good and (forbidden(self.op, inputs) or not explains_non_finite(self.op, inputs, result)):
            raise NonFinite("returned NaN or infinities for finite inputs")

    def as_promised(self, result: Array) -> Array:
        """The result in the dtype that the operation promises for the caller's inputs."""
        if result.dtype == self.promised.dtype:
            return result
        with np.errstate(over="ignore"):  # infinity is what a narrow dtype has for a large number
            return result.astype(self.promised.dtype)

    def admitted(self, inputs: Arrays, expected: NDArray[np.float64]) -> Tolerance:
        """The error that the operation admits for a request, wherever the reference is finite."""
        known = np.where(np.isfinite(expected), expected, 0.0)
        accuracy = self.server.candidate.implementation.capabilities.accuracy
        return self.op.tolerance("", inputs, self.params, known, accuracy)

    def count(self, elapsed: float) -> None:
        """Note a call that went well.

        The interpreter does not switch threads within such a statement, so that nothing is lost.
        """
        server = self.server
        counters = server.candidate.counters
        counters.calls += 1
        counters.seconds += elapsed
        counters.work += self.work
        kernel = server.kernel
        if kernel is not None and not kernel.whole:
            self.count_blocks(kernel, self.items)

    def count_blocks(self, kernel: Kernel, items: int) -> None:
        """Note that so many items went through an item kernel in blocks as large as its plan's."""
        counters, size = self.server.candidate.counters, kernel.plan.batch_size
        full, tail = divmod(items, size)
        counters.items += items
        counters.batches += full + bool(tail)
        if full:
            counters.batch_sizes[size] += full
        if tail:
            counters.batch_sizes[tail] += 1


@dataclass(slots=True, eq=False)
class Route:
    """The legs of one signature, best first, and the rules in force when it was found."""

    op: Operation[Any, Any]
    params: Params
    spec: Spec
    legs: Sequence[Leg]
    dtype: np.dtype[Any]
    """The main input's."""
    require: str | None
    policy: FallbackConfig
    absent: tuple[None, ...] = ()
    """The optional arrays of a request that brings none."""
    watched: bool = False
    """Whether results are offered to the shadow checks."""

    def __post_init__(self) -> None:
        self.absent = (None,) * len(self.op.optional)
        self.watched = self.policy.shadow_rate > 0 or self.policy.check == "always"

    def gather(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Arrays:
        """The inputs in the operation's order."""
        given = len(args)
        return tuple(args[i] if i < given else kwargs.get(item.name) for i, item in enumerate(self.op.inputs))


def forbidden(op: Operation[Any, Any], inputs: Arrays) -> bool:
    """Whether a value is there that the operation forbids."""
    pairs = zip(op.inputs, inputs, strict=True)
    return any(item.finite and array is not None and not all_finite(array) for item, array in pairs)


def refuse_forbidden(op: Operation[Any, Any], inputs: Arrays) -> None:
    """Raise for the first value that the operation forbids.

    Raises:
        InvalidInput: There is one.
    """
    for item, array in zip(op.inputs, inputs, strict=True):
        if item.finite and array is not None and not all_finite(array):
            where = np.argwhere(~np.isfinite(array))
            first = tuple(int(i) for i in where[0])
            place = str(first[0] if len(first) == 1 else first)
            raise InvalidInput(
                f"{op.name}: {item.name} holds {len(where)} non-finite value(s), "
                f"the first is {array[first]} at {place}; only finite values are accepted"
            )


def explains_non_finite(op: Operation[Any, Any], inputs: Arrays, result: Array | None = None) -> bool:
    """Whether a non-finite result, or that there is none, may come from the request itself.

    An optional array such as an additive mask may hold minus infinity by its nature.
    That explains infinities, but neither NaN nor an exception.
    """
    required = len(op.required)
    if not all(all_finite(array) for array in inputs[:required] if array is not None):
        return True
    optional = [array for array in inputs[required:] if array is not None and array.dtype.kind == "f"]
    if not all((array < np.inf).all() for array in optional):
        return True  # NaN or plus infinity
    infinities = result is not None and not np.isnan(result).any()
    return infinities and not all(all_finite(array) for array in optional)
