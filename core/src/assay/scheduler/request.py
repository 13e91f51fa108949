"""A submitted request on its way, and the parts of several that make up a block."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from assay.contract.operation import Array, Arrays, Items
from assay.negotiation.kernel import Kernel
from assay.scheduler.route import Leg, Route

if TYPE_CHECKING:
    from assay.scheduler.batcher import Batcher
    from assay.scheduler.bound import BoundOperation


class _Door(type(threading.RLock())):  # type: ignore[misc]  # the class has no public name
    """What an ``Answer`` has in the place of a future's condition, at a fraction of its cost.

    A future tells those who wait once: when it is done. So one plain lock, held until then, lets all through.
    """

    def __init__(self) -> None:
        self._shut = threading.Lock()
        self._shut.acquire()

    def wait(self, timeout: float | None = None) -> None:
        """Wait until it is open, as one who has locked this; it is not locked meanwhile."""
        self.release()
        try:
            if self._shut.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
                self._shut.release()  # for the next who waits
        finally:
            self.acquire()

    def notify_all(self) -> None:
        """Open it."""
        self._shut.release()


class Answer(Future[Any]):
    """The future of a request.

    If nobody has begun the request, the thread that waits for it may serve it: that spares a lone caller the
    way to another thread and back.
    """

    def __init__(self, request: Request) -> None:
        super().__init__()
        self._condition = _Door()
        self.request: Request | None = request
        """Until it begins, so that a future that is kept keeps no arrays."""

    def result(self, timeout: float | None = None) -> Any:
        """The result, as ``concurrent.futures`` defines it."""
        request = self.request
        if request is not None and timeout is None:
            request.queue.help_out(request)
        return super().result(timeout)


@dataclass(slots=True, eq=False)
class Request:
    """One submitted request.

    ``queue`` is told once when it no longer waits: it begins, or is given up.
    """

    queue: Batcher
    bound: BoundOperation[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    future: Answer = field(init=False)
    arrived: float = field(default_factory=time.perf_counter)
    started: bool = False
    failed: BaseException | None = None
    """What the first plan has raised for it."""
    route: Route = field(init=False)
    leg: Leg = field(init=False)
    """The plan that is asked first."""
    inputs: Arrays = field(init=False)
    out: Array | None = field(init=False)
    deadline_s: float | None = field(init=False)
    items: Items | None = field(init=False)
    total: int = field(init=False)
    """How many items it has."""
    taken: int = field(init=False)
    """Those that are in a block already."""
    undone: int = field(init=False)
    """Those whose results are not there yet."""
    seconds: float = field(init=False)
    """The kernel's time for it."""
    _memory: object = field(init=False)

    def __post_init__(self) -> None:
        self.future = Answer(self)

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
            self.queue.left()
        self.future.request = None
        self.started = self.future.set_running_or_notify_cancel()
        if self.started:
            self.leg.server.candidate.counters.queue_seconds += time.perf_counter() - self.arrived
        return self.started

    def cancel(self) -> bool:
        """Give it up, unless it has begun."""
        if self.started:
            return False
        self.future.cancel()
        self.begin()
        return True

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
