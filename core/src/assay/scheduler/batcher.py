"""``submit``: one queue per operation, whose requests share the blocks of an item kernel.

A request that finds the kernel idle runs at once. What arrives while the kernel is busy shares the next
block, fairly: everybody gets an equal part of it, so that a huge request does not keep small ones waiting.
After a block that was shared, the next one waits a little for the same company, as far as the preset allows.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.contract.errors import DeviceLost, InvalidInput, Overloaded
from assay.contract.log import emit
from assay.contract.operation import Array
from assay.negotiation.kernel import IN_FLIGHT, Kernel
from assay.scheduler.deadline import Hung
from assay.scheduler.inbox import Inbox
from assay.scheduler.request import Joined, Part, Request
from assay.scheduler.route import Leg
from assay.scheduler.server import Retired

if TYPE_CHECKING:
    from assay.scheduler.bound import BoundOperation
    from assay.scheduler.dispatcher import Dispatcher

WORKERS = 4
"""Threads for requests that share no block."""

PATIENCE: Mapping[str, float] = {"latency": 0.0, "single": 0.0, "balanced": 0.25, "throughput": 1.0}
"""How long a block waits for company, as a part of the kernel's own time for a block: "balanced" for those
who shared the last one, "throughput" until it is full."""

LONGEST_WAIT_S = 0.01
"""The longest wait, however slow the kernel."""

WORTH_S = 100e-6
"""A shorter wait is not begun: waking a thread takes as long, and what comes meanwhile comes anyway."""

KINDS = 64
"""Kinds of items whose habits are remembered."""


@dataclass(slots=True, eq=False)
class Kind:
    """Requests whose items may share a block: the same kernel, item shapes, dtype and parameters."""

    leg: Leg
    requests: deque[Request] = field(default_factory=deque)
    """Those with items that are in no block yet."""
    left: int = 0
    """Requests that no longer waited after the last deal."""
    under_way: Sequence[Request] = ()
    """Those with items in the block that runs."""
    company: int = 0
    """Requests in the last block."""
    room: int = 1
    """Items that fit in a block."""
    ended: float = 0.0
    seconds: float = 0.0
    """The kernel's own time for a block, smoothed."""

    def deal(self, room: int) -> list[Part]:
        """Fill a block: an equal part for everybody, and what is left over in order of arrival."""
        requests, parts = self.requests, []
        self.left = 0
        share = max(1, room // max(1, len(requests)))
        for _ in range(min(len(requests), room)):
            request = requests.popleft()
            self.left += not request.started
            if request.started or request.begin(counted=False):
                part = Part(request, request.taken, min(request.taken + share, request.total))
                room -= part.stop - part.start
                parts.append(part)
        for part in parts:
            if room and part.stop < part.request.total:
                room -= part.extend(room)
        requests.extend([part.request for part in parts if part.stop < part.request.total])
        return parts

    def note(self, company: int, seconds: float) -> None:
        """Remember a block: how many shared it, and how long it took."""
        self.company, self.ended = company, time.perf_counter()
        self.seconds = seconds if not self.seconds else 0.75 * self.seconds + 0.25 * seconds

    @property
    def waiting_items(self) -> int:
        """Items that are in no block yet."""
        return sum(request.total - request.taken for request in self.requests)


class Batcher:
    """The queue of one operation. Its threads start with the first request that needs them."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self.waiting = 0
        """Requests that were taken and have not begun."""
        self.refused = 0
        """Requests that were not taken because the queue was full."""
        self._lock = threading.Lock()
        self._alone: SimpleQueue[Request | None] = SimpleQueue()
        self._shared: Inbox[Request | None] = Inbox()
        self._threads: list[threading.Thread] = []
        self._gatherer: threading.Thread | None = None
        self._spare = 0
        """Workers at rest, less the requests that wait for one."""
        self._kinds: dict[Any, Kind] = {}
        self._busy: deque[Kind] = deque()
        self._company_until = 0.0
        """Until when those who shared the last block are likely to come back."""
        self._closed = False

    def submit(
        self, bound: BoundOperation[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Future[Any]:
        """Take a request.

        Raises:
            Overloaded: As many wait as may.
        """
        request = Request(self, bound, args, kwargs)
        try:
            request.find()
        except Exception as error:  # noqa: BLE001  # it belongs to the request
            request.future.set_exception(error)
        else:
            self._send(request, new=True)
        return request.future

    def close(self, wait_s: float) -> None:
        """Cancel what has not begun, and wait for what has."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            threads = [*self._threads, *([self._gatherer] if self._gatherer else [])]
        begun = []
        while not self._alone.empty():
            with contextlib.suppress(Empty):
                request = self._alone.get_nowait()
                if request is not None and not request.cancel():
                    begun.append(request)
        for request in [*begun, *[None] * len(self._threads)]:
            self._alone.put(request)
        self._shared.put(None)
        until = time.monotonic() + wait_s
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _overloaded(self) -> Overloaded:
        self.refused += 1
        return Overloaded(
            f"{self._dispatcher.op.name}: {self.waiting} requests wait already; "
            "try again later, send fewer at a time, or raise [queue] limit"
        )

    def left(self, count: int = 1) -> None:
        with self._lock:
            self.waiting -= count

    def _send(self, request: Request, *, new: bool = False) -> None:
        with self._lock:
            if new:
                if self.waiting >= self._dispatcher.quarantine.roster.limit:
                    raise self._overloaded()
                self.waiting += 1
            closed = self._closed
            if closed:
                pass
            elif request.leg.share is not None and request.failed is None:
                if self._gatherer is None:
                    self._gatherer = _start(self._gather, "assay-batcher")
                self._shared.put(request)
            else:
                self._spare -= 1
                if self._spare < 0 and len(self._threads) < WORKERS:
                    self._spare += 1
                    self._threads.append(_start(self._work, "assay-worker"))
                self._alone.put(request)
        if closed and not request.cancel():
            self._serve(request)  # it has begun, and so it is finished

    # Requests that share no block.

    def _work(self) -> None:
        while (request := self._alone.get()) is not None:
            if request.begin():
                self._serve(request)
            del request  # a worker at rest keeps no request alive
            with self._lock:
                self._spare += 1

    def _serve(self, request: Request) -> None:
        try:
            if request.failed is None and request.stale:
                request.find()
            failed, request.failed = request.failed, None
            result = self._dispatcher.serve(
                request.route, request.inputs, request.out, request.deadline_s, failed=failed
            )
        except BaseException as error:  # noqa: BLE001  # it belongs to the request
            request.reject(error)
        else:
            request.future.set_result(result)

    def help_out(self, request: Request) -> None:
        """Serve a request in the thread that waits for it, if nobody else is here or was here just now."""
        if time.perf_counter() < self._company_until or not self._shared.withdraw(request):
            return
        try:
            if request.begin():
                self._serve(request)
        finally:
            self._shared.resume()

    # Requests that share blocks: one thread gathers them and runs the kernel.

    def _gather(self) -> None:
        stopping = False
        while self._busy or not stopping:
            stopping |= self._arrive(self._shared.take(0 if self._busy else 1))
            if stopping:
                self._cancel_waiting()
            if self._busy:
                kind = self._busy.popleft()
                self._wait_for_company(kind)
                try:
                    self._run_block(kind)
                except BaseException as error:  # noqa: BLE001  # a defect of ours must leave nobody waiting
                    emit(logging.ERROR, "batcher.failed", op=self._dispatcher.op.name, error=repr(error))
                    for request in [*kind.under_way, *kind.requests]:
                        if not request.future.done():
                            self._fail(kind, request, error)
                kind.under_way = ()
                if kind.requests:
                    self._busy.append(kind)

    def _arrive(self, requests: Sequence[Request | None]) -> bool:
        """Put requests with their kinds; whether the end is among them."""
        for request in requests:
            if request is not None:
                self._join(request)
        return None in requests

    def _join(self, request: Request) -> None:
        if request.stale:
            self._send_anew(request)
            return
        key = (request.leg.share, request.deadline_s)
        kind = self._kinds.get(key)
        if kind is None:
            if len(self._kinds) >= KINDS:
                self._kinds = {key: kind for key, kind in self._kinds.items() if kind.requests}
            kind = self._kinds[key] = Kind(request.leg)
        if not kind.requests and kind not in self._busy:
            self._busy.append(kind)
        kind.requests.append(request)

    def _send_anew(self, request: Request) -> None:
        try:
            request.find()
        except BaseException as error:  # noqa: BLE001  # it belongs to the request
            request.reject(error)
        else:
            self._send(request)

    def _cancel_waiting(self) -> None:
        for kind in self._busy:
            kind.requests = deque(request for request in kind.requests if not request.cancel())

    def _wait_for_company(self, kind: Kind) -> None:
        """After a shared block, wait for those who are likely to come back; a lone request does not wait."""
        roster, here = self._dispatcher.roster, len(kind.requests)
        patience = min(PATIENCE[roster.preset] * kind.seconds, LONGEST_WAIT_S)
        recent = time.perf_counter() - kind.ended <= kind.seconds
        if not here or patience < WORTH_S or kind.company < 2 or not recent:
            return
        wanted = kind.company
        if roster.preset == "throughput":
            wanted = max(wanted, kind.room * here // max(1, kind.waiting_items))  # as many as fill the block
        if self._arrive(self._shared.take(wanted - here, patience)):
            self._shared.put(None)

    def _run_block(self, kind: Kind) -> None:
        if kind.leg.server.quarantined:
            self._move(kind, [request for request in kind.requests if request.stale])
        try:
            kernel = kind.leg.server.ready()
        except Retired:
            self._move(kind, list(kind.requests))
            return
        except BaseException as error:  # noqa: BLE001  # it does not load: everybody goes on to the next plan
            for request in list(kind.requests):
                self._fail(kind, request, error)
            return
        if not kind.requests:
            return
        room = kind.room = kernel.plan.batch_size * (1 if kernel.begin is None else IN_FLIGHT)
        dealt = kind.deal(room)
        self.left(kind.left)
        parts = [part for part in dealt if self._opened(kind, kernel, part.request)]
        kind.under_way = [part.request for part in parts]
        if parts:
            self._run(kind, kernel, parts)

    def _opened(self, kind: Kind, kernel: Kernel, request: Request) -> bool:
        try:
            request.open(kernel)
        except InvalidInput as error:
            self._leave(kind, request)
            request.reject(error)
            return False
        except BaseException as error:  # noqa: BLE001  # cutting may raise anything
            self._fail(kind, request, error)
            return False
        return True

    def _move(self, kind: Kind, requests: Sequence[Request]) -> None:
        """Find the way of requests anew."""
        for request in requests:
            self._leave(kind, request)
            self._send_anew(request)

    def _run(self, kind: Kind, kernel: Kernel, parts: Sequence[Part], *, halved: bool = False) -> bool:
        """Run a block; one that fails is halved until only who is guilty fails. Whether all were served."""
        leg, deadline_s = kind.leg, parts[0].request.deadline_s
        items = Joined(parts)
        work = partial(kernel.run_items, items, leg.item_params, leg.spec.dtype)
        start = time.perf_counter()
        try:
            if deadline_s is None:
                work()
            else:
                bound = self._dispatcher.roster.policy.hung_threads
                self._dispatcher.lanes.run(leg.server, work, deadline_s, bound)
        except Retired:
            self._move(kind, [part.request for part in parts])
            return True
        except BaseException as error:  # noqa: BLE001  # a kernel may raise anything
            if len(parts) == 1 or isinstance(error, (Hung, DeviceLost)):
                for part in parts:
                    self._fail(kind, part.request, error)
                return False
            half = len(parts) // 2
            good = [self._run(kind, kernel, some, halved=True) for some in (parts[:half], parts[half:])]
            if all(good) and not halved:  # each half is right now, so no request was guilty
                self._dispatcher.accuse(leg, parts[0].request.inputs, error)
            return all(good)
        elapsed = time.perf_counter() - start
        kind.note(len(parts), elapsed)
        if len(parts) > 1:
            self._company_until = kind.ended + kind.seconds
        leg.server.candidate.counters.seconds += elapsed
        leg.count_blocks(kernel, items.count)
        for part in parts:
            request, count = part.request, part.stop - part.start
            request.seconds += elapsed * count / items.count
            request.undone -= count
            if not request.undone:
                self._finish(kind, request)
        return True

    def _finish(self, kind: Kind, request: Request) -> None:
        leg = request.leg
        try:
            assert request.items is not None
            result = request.items.result()
            leg.guard(result, request.inputs, request.seconds)
            if result.dtype is not leg.promised.dtype:
                result = leg.as_promised(result)
        except BaseException as error:  # noqa: BLE001  # merging may raise anything
            self._fail(kind, request, error)
            return
        counters = leg.server.candidate.counters
        counters.calls += 1
        counters.work += leg.work
        self._deliver(request, result)

    def _deliver(self, request: Request, result: Array) -> None:
        if request.route.watched:
            self._dispatcher.shadow.offer(request.leg, request.route, request.inputs, result)
        if request.out is not None:
            np.copyto(request.out, result)
            result = request.out
        request.future.set_result(result)

    def _fail(self, kind: Kind, request: Request, error: BaseException) -> None:
        """Let a worker serve a request from its next plan on, so that nobody here waits for that."""
        self._leave(kind, request)
        if request.begin():
            request.failed = error
            self._send(request)

    def _leave(self, kind: Kind, request: Request) -> None:
        with contextlib.suppress(ValueError):
            kind.requests.remove(request)


def _start(work: Any, name: str) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True, name=name)
    thread.start()
    return thread
