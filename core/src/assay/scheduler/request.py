"""A submitted request on its way, and the parts of several that make up a block."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any

from assay.contract.operation import Array, Arrays, Items
from assay.negotiation.kernel import Kernel
from assay.scheduler.route import Leg, Route

if TYPE_CHECKING:
    from assay.scheduler.bound import BoundOperation


class Answer(Future[Any]):
    """A future that is waited for by one plain lock, at half the cost of the standard's condition.

    If nobody has begun its request, the thread that waits for it may serve it: that spares a lone caller the
    way to another thread and back.
    """

    def __init__(self, help_out: Callable[[], None]) -> None:
        super().__init__()
        self._help_out: Callable[[], None] | None = help_out
        self._open = False
        self._door = threading.Lock()  # held until it is done
        self._door.acquire()

    def result(self, timeout: float | None = None) -> Any:
        """The result, as ``concurrent.futures`` defines it."""
        help_out = self._help_out
        if help_out is not None and timeout is None:
            help_out()
        self._wait(timeout)
        return super().result(0)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What was raised, as ``concurrent.futures`` defines it."""
        self._wait(timeout)
        return super().exception(0)

    def set_result(self, result: Any) -> None:
        """Answer it."""
        super().set_result(result)
        self._unlock()

    def set_exception(self, exception: BaseException | None) -> None:
        """Answer it with an error."""
        super().set_exception(exception)
        self._unlock()

    def cancel(self) -> bool:
        """Cancel it, unless it has begun."""
        cancelled = super().cancel()
        if cancelled:
            self._unlock()
        return cancelled

    def _wait(self, timeout: float | None) -> None:
        if not self._open and self._door.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
            self._door.release()

    def _unlock(self) -> None:
        """Let everybody through who waits. Nothing of the request is held any more."""
        self._help_out = None
        if not self._open:
            self._open = True
            self._door.release()


class Request:
    """One submitted request.

    Args:
        bound: What it was submitted to.
        args: Its arguments.
        kwargs: Its keyword arguments.
        leaves: Told once, when it no longer waits: it begins or is given up.
        help_out: Told when somebody waits for it, who could as well serve it.
    """

    __slots__ = (
        "_leaves",
        "_memory",
        "args",
        "arrived",
        "bound",
        "deadline_s",
        "failed",
        "future",
        "inputs",
        "items",
        "kwargs",
        "leg",
        "out",
        "route",
        "seconds",
        "started",
        "taken",
        "total",
        "undone",
    )

    def __init__(
        self,
        bound: BoundOperation[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        leaves: Callable[[], None],
        help_out: Callable[[Request], None],
    ) -> None:
        self.bound, self.args, self.kwargs, self._leaves = bound, args, kwargs, leaves
        self.future = Answer(partial(help_out, self))
        self.arrived = time.perf_counter()
        self.started = False
        self.failed: BaseException | None = None
        """What the first plan has raised for it."""
        self.route: Route
        self.leg: Leg
        """The plan that is asked first."""
        self.inputs: Arrays
        self.out: Array | None
        self.deadline_s: float | None
        self.items: Items | None
        self.total: int
        """How many items it has."""
        self.taken: int
        """Those that are in a block already."""
        self.undone: int
        """Those whose results are not there yet."""
        self.seconds: float
        """The kernel's time for it."""

    @property
    def stale(self) -> bool:
        """Whether the serving order has changed since its way was found."""
        return self._memory is not self.bound.memory

    def find(self) -> None:
        """Find its way, and bring the arrays into the form that the kernel wants.

        Raises:
            InvalidInput: The arguments do not fit the operation.
            NoImplementation: No implementation takes it.
        """
        self._memory = self.bound.memory
        self.route, self.inputs, self.out = self.bound.find(self.args, dict(self.kwargs))
        self.deadline_s = self.bound.deadline_of(self.route)
        self.leg = leg = self.route.legs[0]
        self.items, self.taken, self.undone, self.total, self.seconds = None, 0, leg.items, leg.items, 0.0

    def begin(self, *, counted: bool = True) -> bool:
        """Whether it may run: it was not cancelled. ``counted``: that it no longer waits is told."""
        if self.started:
            return True
        if counted:
            self._leaves()
        self.started = self.future.set_running_or_notify_cancel()
        if self.started:
            self.leg.server.candidate.counters.queue_seconds += time.perf_counter() - self.arrived
        return self.started

    def cancel(self) -> bool:
        """Give it up, unless it has begun."""
        if self.started:
            return False
        self._leaves()
        self.future.cancel()
        self.future.set_running_or_notify_cancel()
        return True

    def resolve(self, result: Array) -> None:
        """Answer it."""
        self.future.set_result(result)

    def reject(self, error: BaseException) -> None:
        """Answer it with an error, unless it was cancelled."""
        if self.begin():
            self.future.set_exception(error)

    def open(self, kernel: Kernel) -> None:
        """Look at its values, bring its arrays into the form that the kernel wants, and cut it into items.

        Raises:
            InvalidInput: There is a value that the operation forbids.
            Exception: Whatever the operation raises.
        """
        if self.items is None:
            self.leg.admit(self.inputs)
            self.items = kernel.split(self.leg.prepare(self.inputs), self.leg.params)


class Part:
    """Items ``start`` to ``stop`` of one request, for one block."""

    __slots__ = ("request", "start", "stop")

    def __init__(self, request: Request, start: int, stop: int) -> None:
        self.request, self.start, self.stop = request, start, stop
        request.taken = stop

    def extend(self, room: int) -> int:
        """Take more items of the request, at most so many; returns how many."""
        more = min(room, self.request.total - self.stop)
        self.stop = self.request.taken = self.stop + more
        return more


class Joined:
    """The items of several requests as those of one: what an item kernel is run over."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._pieces: list[tuple[Items, int, int, int]] = []
        at = 0
        for part in parts:
            assert part.request.items is not None
            self._pieces.append((part.request.items, part.start, part.stop, at))
            at += part.stop - part.start
        self.count = at
        first = self._pieces[0][0]
        self.shapes, self.result_shape = first.shapes, first.result_shape

    def load(self, start: int, stop: int, blocks: Sequence[Array]) -> None:
        """Write items start to stop into the blocks, each request its own."""
        for items, first, last, at in self._between(start, stop):
            items.load(first, last, [block[at : at + last - first] for block in blocks])

    def store(self, start: int, stop: int, block: Array) -> None:
        """Give every request its results."""
        for items, first, last, at in self._between(start, stop):
            items.store(first, last, block[at : at + last - first])

    def result(self) -> Array:
        """There is none: each request has its own."""
        raise NotImplementedError

    def _between(self, start: int, stop: int) -> list[tuple[Items, int, int, int]]:
        """(items, first, last, where in the block) of every request between start and stop."""
        if stop - start == self.count:
            return self._pieces
        cut = []
        for items, first, last, at in self._pieces:
            a, b = max(start, at), min(stop, at + last - first)
            if a < b:
                cut.append((items, first + a - at, first + b - at, a - start))
        return cut
