"""Deadlines: a kernel runs in another thread on private arrays, and its caller stops waiting in time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from assay.scheduler.server import Server

T = TypeVar("T")


class Hung(Exception):
    """A kernel did not answer before the deadline; its late result is discarded."""


class _Call(Generic[T]):
    """One call in a lane: whoever comes second, the result or the deadline, finds the other's mark."""

    __slots__ = ("abandoned", "answered", "error", "result", "server", "work")

    def __init__(self, server: Server, work: Callable[[], T]) -> None:
        self.server, self.work = server, work
        self.result: T
        self.error: BaseException | None = None
        self.abandoned = False
        self.answered = threading.Lock()
        self.answered.acquire()

    def run(self) -> None:
        try:
            self.result = self.work()
        except BaseException as error:  # noqa: BLE001  # carried over to the caller's thread
            self.error = error

    def deliver(self) -> None:
        self.answered.release()
        with self.server.lock:
            if self.abandoned:
                self.server.hung -= 1


class Lanes:
    """Threads that are kept between calls. A lane whose call hangs is left alone until it comes back."""

    def __init__(self) -> None:
        self._idle: list[SimpleQueue[_Call[Any] | None]] = []
        self._lock = threading.Lock()
        self._closed = False

    def run(self, server: Server, work: Callable[[], T], deadline_s: float, bound: int) -> T:
        """Do some work of a server's kernel, which must own every array that it touches.

        Args:
            server: Whose kernel it is; calls of it that hang are counted there.
            work: What to do.
            deadline_s: The longest to wait.
            bound: How many calls of the server may hang before it is refused.

        Raises:
            Hung: It took longer, or too many calls of this implementation hang already.
            BaseException: Whatever the work raises.
        """
        if server.hung >= bound:
            raise Hung(f"{server.hung} calls of it hang already; no more threads are given to it")
        call = _Call(server, work)
        with self._lock:
            lane = self._idle.pop() if self._idle else None
        if lane is None:
            lane = SimpleQueue()
            threading.Thread(target=self._serve, args=(lane,), daemon=True, name="assay-lane").start()
        lane.put(call)
        if not call.answered.acquire(timeout=deadline_s):
            with server.lock:
                if not call.answered.acquire(blocking=False):
                    call.abandoned = True
                    server.hung += 1
                    raise Hung(f"did not answer within {deadline_s:g} s")
        if call.error is None:
            return call.result
        error, call.error = call.error, None
        try:
            raise error
        finally:
            del error  # an error that holds this frame, which holds the error, would outlive the request

    def close(self) -> None:
        """End the idle lanes; a hung one ends when its kernel comes back."""
        with self._lock:
            self._closed = True
            for lane in self._idle:
                lane.put(None)
            self._idle.clear()

    def _serve(self, lane: SimpleQueue[_Call[Any] | None]) -> None:
        while (call := lane.get()) is not None:
            call.run()
            with self._lock:
                closed = self._closed
                if not closed:
                    self._idle.append(lane)  # before its caller goes on, who may want a lane again
            call.deliver()
            if closed:
                return
            del call  # a lane at rest keeps no request alive
