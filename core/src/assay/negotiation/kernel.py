"""A loaded implementation under its plan: serves one request, or one block of items."""

from __future__ import annotations

import contextlib
import inspect
import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from assay.contract.device import Plan
from assay.contract.errors import AssayError
from assay.contract.implementation import Implementation
from assay.contract.operation import Array, Arrays, Items, Operation, Params, Spec, Tolerance
from assay.negotiation.compare import compare
from assay.negotiation.domain import CompiledDomain
from assay.negotiation.target import resolve

IN_FLIGHT = 2
"""Blocks begun and not finished: enough for copying to overlap computing."""


class BadResult(AssayError):
    """A kernel returned something that is no result of its operation."""


class Kernel:
    """A loaded implementation under its plan.

    Raises:
        Exception: Whatever importing or opening the implementation raises.
    """

    def __init__(self, op: Operation[..., Any], implementation: Implementation, plan: Plan) -> None:
        self.op = op
        self.implementation = implementation
        self.plan = plan
        self.capabilities = implementation.capabilities
        self.domain = CompiledDomain(op, implementation.capabilities)
        self.call: Callable[..., Any]
        if implementation.kernel is not None:
            self.call = resolve(implementation.kernel)
        else:
            assert implementation.opener is not None
            self.call = resolve(implementation.opener)(plan.device, plan)
            if not callable(self.call):
                raise TypeError(
                    f"{implementation.id}: its opener returned {self.call!r}, which is not callable"
                )
        self.whole = self.capabilities.form == "whole"
        self.gives_out = self.capabilities.writes_out or (not self.whole and _takes_out(self.call))
        # What an opener returned has one owner at a time; nothing but that one kernel waits on this.
        self.turn: contextlib.AbstractContextManager[Any] | None = None
        self.spot_checks = plan.device.kind != "cpu"
        """Whether one item of each block is held against the reference."""
        # A kernel with begin() and finish() has two blocks in flight: one is copied while one is computed.
        self.begin: Callable[..., Any] | None = None if self.whole else getattr(self.call, "begin", None)
        if implementation.opener is not None and not self.capabilities.thread_safe:
            self.turn = threading.Lock()

    def serve(self, inputs: Arrays, params: Params, spec: Spec, out: Array | None = None) -> Array:
        """The answer to one request, whose inputs are as the kernel wants them.

        With ``out``, a C-contiguous array of the spec, the answer may be written there.

        Raises:
            BadResult: The kernel returned something else.
            Exception: Whatever the kernel raises.
        """
        if self.whole:
            return self._whole(inputs, params, spec, out)
        items = self.split(inputs, params, out)
        self.run_items(
            items, params if self.op.items is None else self.item_params(inputs, params), spec.dtype
        )
        return items.result()

    def _whole(self, inputs: Arrays, params: Params, spec: Spec, out: Array | None) -> Array:
        keywords = self.op.keywords(inputs, params)
        if self.gives_out:
            keywords["out"] = out if out is not None else np.empty(spec.shape, spec.dtype)
        positional = inputs[: len(self.op.required)]
        if self.turn is None:
            result = self.call(*positional, **keywords)
        else:
            with self.turn:
                result = self.call(*positional, **keywords)
        checked = check_result(result, spec.shape, spec.dtype)
        if self.gives_out and result is not keywords["out"]:
            self._check_same(checked, keywords["out"])
        return checked

    def split(self, inputs: Arrays, params: Params, out: Array | None = None) -> Items:
        """A request cut into the items that this kernel takes."""
        assert self.op.items is not None
        return self.op.items.split(inputs, params, item_shape=self.capabilities.item_shape, out=out)

    def item_params(self, inputs: Arrays, params: Params) -> Params:
        """The parameters as an item kernel gets them."""
        assert self.op.items is not None
        return params if self.op.items.params is None else self.op.items.params(inputs, params)

    def run_items(self, items: Items, params: Params, dtype: np.dtype[Any]) -> int:
        """Run every item in blocks of declared sizes, the tail padded with zeros; returns how many."""
        most = self.plan.batch_size
        sizes = self.capabilities.batch_sizes
        blocks: list[Array] = []
        out: Array | None = None
        begun: deque[tuple[Any, int, int, Array, SpotCheck | None]] = deque()
        start = ran = 0
        with self.turn if self.begin is not None and self.turn is not None else contextlib.nullcontext():
            while start < items.count:
                stop = min(start + most, items.count)
                size = sizes.hold(stop - start, most)
                if not blocks or len(blocks[0]) != size:
                    blocks = [np.empty((size, *shape), dtype) for shape in items.shapes]
                    given = self.gives_out or self.begin is not None
                    out = np.empty((size, *items.result_shape), dtype) if given else None
                if stop - start < size:
                    for block in blocks:
                        block[stop - start :] = 0
                items.load(start, stop, [block[: stop - start] for block in blocks])
                if self.begin is None:
                    result = self.run_block(blocks, params, (size, *items.result_shape), dtype, out)
                    if self.spot_checks:
                        SpotCheck(self, blocks, params, stop - start).check(result)
                    items.store(start, stop, result[: stop - start])
                else:
                    assert out is not None
                    token = self.begin(*blocks, **params)
                    # What one item should be is worked out while the device computes all of them.
                    spot = SpotCheck(self, blocks, params, stop - start) if self.spot_checks else None
                    begun.append((token, start, stop, out, spot))
                    if len(begun) == IN_FLIGHT:
                        self._finish(items, *begun.popleft())
                start, ran = stop, ran + 1
            while begun:
                self._finish(items, *begun.popleft())
        return ran

    def _finish(
        self, items: Items, token: Any, start: int, stop: int, out: Array, spot: SpotCheck | None
    ) -> None:
        self.call.finish(token, out)  # type: ignore[attr-defined]  # there is a begin, so there is a finish
        if spot is not None:
            spot.check(out)
        items.store(start, stop, out[: stop - start])

    def run_block(
        self,
        blocks: Sequence[Array],
        params: Params,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        out: Array | None = None,
    ) -> Array:
        """One call of an item kernel."""
        keywords: Mapping[str, Any] = params
        if self.gives_out:
            if out is None:
                out = np.empty(shape, dtype)
            keywords = {**params, "out": out}
        if self.turn is None:
            result = self.call(*blocks, **keywords)
        else:
            with self.turn:
                result = self.call(*blocks, **keywords)
        checked = check_result(result, shape, dtype)
        if self.capabilities.writes_out and out is not None and result is not out:
            self._check_same(checked, out)
        return checked

    def _check_same(self, result: Array, out: Array) -> None:
        if result.__array_interface__["data"][0] != out.__array_interface__["data"][0]:
            raise BadResult(
                f"{self.implementation.id} declares writes_out=True but returned another array than the out= "
                "that it was given: fill out and return it, or drop writes_out"
            )

    @contextlib.contextmanager
    def compared(self) -> Iterator[None]:
        """In here whoever calls compares every result, and says more about a wrong one than a spot check."""
        before, self.spot_checks = self.spot_checks, False
        try:
            yield
        finally:
            self.spot_checks = before

    def seen(self) -> str:
        """What the kernel saw of its last block beyond the values (that every code was zero, for example)."""
        seen = getattr(self.call, "describe", str)()
        return f" ({seen})" if seen else ""

    def close(self) -> None:
        """Close what the opener returned, if it can be closed."""
        close = getattr(self.call, "close", None)
        if self.implementation.opener is not None and callable(close):
            close()


class SpotCheck:
    """One item of a block, held against the reference: a device may say COMPLETED and have done nothing."""

    def __init__(self, kernel: Kernel, blocks: Sequence[Array], params: Params, count: int) -> None:
        assert kernel.op.items is not None
        self.kernel = kernel
        self.row = secrets.randbelow(count)
        self.part = tuple(block[self.row : self.row + 1].copy() for block in blocks)
        self.expected = kernel.op.items.reference(*self.part, **params)
        self.params = params

    def check(self, result: Array) -> None:
        """Hold the block's result against it.

        Raises:
            BadResult: It is wrong; with what it looks like.
        """
        op = self.kernel.op
        assert op.items is not None
        got, expected = np.asarray(result[self.row : self.row + 1], np.float64), self.expected
        if op.items.settle is not None:
            got, expected = op.items.settle(got), op.items.settle(expected)
        accuracy = self.kernel.capabilities.accuracy
        tolerance = op.tolerance("", self.part, self.params, expected, accuracy)
        wrong = compare("spot check", got, expected, Tolerance(tolerance.max_abs)).wrong
        if wrong:
            what = f"item {self.row} of a block of {len(result)} is wrong: {wrong}{self.kernel.seen()}"
            raise BadResult(what)


def check_result(result: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Hold a result against its shape and dtype, and return it.

    A result without axes may be one of NumPy's scalars or have one axis: NumPy's own functions
    (arithmetic, ``ascontiguousarray``) turn such arrays into these.

    Raises:
        BadResult: With what was expected and what was found.
    """
    if isinstance(result, np.generic):
        result = np.asarray(result)
    if type(result) is not np.ndarray:
        remedy = ": return np.asarray(result)" if isinstance(result, np.ndarray) else ""
        raise BadResult(f"returned {type(result).__name__}, expected an array of {dtype} {shape}{remedy}")
    if not shape and result.shape == (1,):
        result = result.reshape(())
    if result.shape != shape or result.dtype != dtype:
        raise BadResult(f"returned {result.dtype} {result.shape}, expected {dtype} {shape}")
    return result  # type: ignore[no-any-return]  # checked above


def _takes_out(call: Callable[..., Any]) -> bool:
    """Whether an item kernel can be given ``out=``; those that cannot say are."""
    try:
        parameters = inspect.signature(call).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(p.name == "out" or p.kind is p.VAR_KEYWORD for p in parameters)
