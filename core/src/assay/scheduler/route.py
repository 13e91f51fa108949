"""A signature's way: the checked terms of a request and the plans that take it, best first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np

from assay.contract.candidate import Counters
from assay.contract.errors import InvalidInput
from assay.contract.operation import Array, Arrays, Operation, Params, Spec
from assay.negotiation.kernel import Kernel
from assay.scheduler.finite import SECONDS_PER_ELEMENT, SHARE, SMALL, all_finite, spread_finite
from assay.scheduler.server import Server

UNSET = np.dtype(np.void)


class NonFinite(Exception):
    """A kernel gave NaN or infinities for finite inputs."""


@dataclass(slots=True, eq=False)
class Leg:
    """One plan that takes the signature, and what it did for it.

    ``dtype`` is what the main input is converted to; None: it is taken as it is.
    """

    server: Server
    op: Operation[Any, Any]
    params: Params
    spec: Spec
    """What the kernel returns."""
    result_dtype: np.dtype[Any]
    """What the caller gets."""
    dtype: np.dtype[Any] | None
    items: int
    work: float
    check: str
    turns: int = 0
    """Calls whose result was too large to look at every element."""

    def run(self, inputs: Arrays, out: Array | None) -> Array:
        """Serve one request from the caller's arrays; ``out`` is C-contiguous, aligned and its own.

        Raises:
            InvalidInput: A value that the operation forbids.
            NonFinite: The result is not finite and the inputs are.
            Exception: Whatever the kernel raises.
        """
        kernel = self.server.kernel or self.server.ready()
        prepared = self.prepare(kernel, inputs)
        if self.dtype is not None and self.spec.dtype != self.result_dtype:
            out = None
        start = perf_counter()
        result = kernel.serve(prepared, self.params, self.spec, out)
        elapsed = perf_counter() - start
        self.guard(result, inputs, elapsed)
        counters = self.server.candidate.counters
        counters.calls += 1
        counters.seconds += elapsed
        counters.work += self.work
        if not kernel.whole:
            counters.items += self.items
            counters.batches += -(-self.items // kernel.plan.batch_size)
        if result.dtype != self.result_dtype:
            result = result.astype(self.result_dtype)
        return result

    def prepare(self, kernel: Kernel, inputs: Arrays) -> Arrays:
        """The arrays as the kernel wants them: converted, contiguous, aligned, finite where that is asked."""
        strided = kernel.capabilities.strided
        main = inputs[0]
        prepared: list[Array | None] = []
        for item, array in zip(self.op.inputs, inputs, strict=True):
            if array is None:
                prepared.append(None)
                continue
            if item.finite and not kernel.capabilities.checks_finite and not all_finite(array):
                raise non_finite_input(self.op, item.name, array)
            if self.dtype is not None and main is not None and array.dtype == main.dtype:
                array = self.op.convert(array, self.dtype)
            if not strided and not (array.flags.c_contiguous and array.flags.aligned):
                array = np.require(array, requirements=("C", "A"))
            prepared.append(array)
        return tuple(prepared)

    def guard(self, result: Array, inputs: Arrays, elapsed: float) -> None:
        """Look for non-finite values within the budget; with finite inputs they are the kernel's fault."""
        if self.check == "never":
            return
        size = result.size
        full = self.check == "always" or size <= SMALL or size * SECONDS_PER_ELEMENT <= SHARE * elapsed
        if not full:
            self.turns += 1
            every = int(size * SECONDS_PER_ELEMENT / max(SHARE * elapsed, 1e-9)) + 1
            full = self.turns % every == 0
        good = all_finite(result) if full else spread_finite(result, self.turns)
        if not good and all(array is None or all_finite(array) for array in inputs[: len(self.op.required)]):
            raise NonFinite("returned NaN or infinities for finite inputs")


def non_finite_input(op: Operation[Any, Any], name: str, array: Array) -> InvalidInput:
    """The error for a NaN or an infinity where the operation forbids it."""
    where = np.argwhere(~np.isfinite(array))
    first = tuple(int(i) for i in where[0])
    value = array[first]
    return InvalidInput(
        f"{op.name}: {name} holds {len(where)} non-finite value(s), the first is {value} at "
        f"{first if len(first) > 1 else first[0]}; only finite values are accepted"
    )


@dataclass(slots=True, eq=False)
class Route:
    """The legs of one signature, best first.

    The fields after ``dtype`` are for the hot path and hold only after ``make_hot`` has said yes.
    """

    op: Operation[Any, Any]
    params: Params
    spec: Spec
    legs: Sequence[Leg]
    dtype: np.dtype[Any]
    """The main input's."""
    call: Any = None
    gives_out: bool = False
    small: bool = False
    shape: tuple[int, ...] = ()
    result: np.dtype[Any] = UNSET
    work: float = 0.0
    counters: Counters = field(default_factory=Counters)

    def gather(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Arrays:
        """The inputs in the operation's order."""
        given = len(args)
        return tuple(args[i] if i < given else kwargs.get(item.name) for i, item in enumerate(self.op.inputs))

    def make_hot(self) -> bool:
        """Whether the first leg's own function can be called with the caller's array and nothing else."""
        leg = self.legs[0]
        kernel = leg.server.kernel
        if kernel is None or not kernel.whole or kernel.turn is not None or leg.dtype is not None:
            return False
        main = self.op.inputs[0]
        if main.finite and not kernel.capabilities.checks_finite and self.dtype.kind == "f":
            return False
        keywords = self.op.keywords((None,) * len(self.op.inputs), self.params)
        self.call, self.params, self.gives_out = kernel.call, keywords, kernel.gives_out
        self.shape, self.result = self.spec.shape, self.spec.dtype
        blas = self.spec.dtype.char in "fd" and int(np.prod(self.shape)) <= SMALL
        self.small = blas and leg.check != "never"
        self.work, self.counters = leg.work, leg.server.candidate.counters
        return True
