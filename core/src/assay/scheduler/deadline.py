"""Deadlines: a kernel runs in another thread on private buffers, and its caller stops waiting in time."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING

from assay.contract.operation import Array, Arrays

if TYPE_CHECKING:
    from assay.scheduler.route import Leg


class Hung(Exception):
    """A kernel did not answer before the deadline; its late result is discarded."""


class _Call:
    """One call in a lane: whoever comes second, the result or the deadline, finds the other's mark."""

    __slots__ = ("answered", "error", "inputs", "leg", "result")

    def __init__(self, leg: Leg, inputs: Arrays) -> None:
        self.leg, self.inputs = leg, inputs
        self.result: Array | None = None
        self.error: Exception | None = None
        self.answered = threading.Lock()
        self.answered.acquire()

    def run(self) -> None:
        try:
            self.result = self.leg.run(self.inputs, None)
        except Exception as error:  # noqa: BLE001  # carried over to the caller's thread
            self.error = error
        self.answered.release()


class Lanes:
    """Threads that are kept between calls. A lane whose call hangs is left alone until it comes back."""

    def __init__(self) -> None:
        self._idle: list[SimpleQueue[_Call | None]] = []
        self._lock = threading.Lock()
        self._hung: dict[int, Leg] = {}
        self._closed = False

    def run(self, leg: Leg, inputs: Arrays, deadline_s: float, bound: int) -> Array:
        """Run a leg on copies of the inputs and wait at most so long.

        Raises:
            Hung: It took longer, or too many calls of this implementation hang already.
            Exception: Whatever the leg raises.
        """
        if leg.server.hung >= bound:
            raise Hung(f"{leg.server.hung} calls of it hang already; no more threads are given to it")
        call = _Call(leg, tuple(None if array is None else array.copy() for array in inputs))
        with self._lock:
            lane = self._idle.pop() if self._idle else None
        if lane is None:
            lane = SimpleQueue()
            threading.Thread(target=self._serve, args=(lane,), daemon=True, name="assay-lane").start()
        lane.put(call)
        if not call.answered.acquire(timeout=deadline_s):
            with leg.server.lock:
                late = not call.answered.acquire(blocking=False)
                if late:
                    leg.server.hung += 1
                    self._hung[id(call)] = leg
            if late:
                raise Hung(f"did not answer within {deadline_s:g} s")
        if call.error is not None:
            raise call.error
        assert call.result is not None
        return call.result

    def close(self) -> None:
        """End the idle lanes; a hung one ends when its kernel comes back."""
        with self._lock:
            self._closed = True
            for lane in self._idle:
                lane.put(None)
            self._idle.clear()

    def _serve(self, lane: SimpleQueue[_Call | None]) -> None:
        while (call := lane.get()) is not None:
            call.run()
            with call.leg.server.lock:
                if self._hung.pop(id(call), None) is not None:
                    call.leg.server.hung -= 1
            del call  # a lane at rest keeps no request alive
            with self._lock:
                if self._closed:
                    return
                self._idle.append(lane)
