"""The background thread of a runtime: probes the quarantined again, and proves the serving at an interval."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable

from assay.contract.log import emit

Task = Callable[[], None]


class Steward:
    """Runs tasks at their time, one after the other. The thread starts with the first task."""

    def __init__(self) -> None:
        self._tasks: list[tuple[float, int, Task]] = []
        self._count = itertools.count()
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def at(self, when: float, task: Task) -> None:
        """Run a task at a time on the monotonic clock, or as soon as possible after it."""
        with self._wake:
            if self._closed:
                return
            heapq.heappush(self._tasks, (when, next(self._count), task))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True, name="assay-steward")
                self._thread.start()
            self._wake.notify()

    def close(self) -> None:
        """Forget what is due; a task that runs is left to end."""
        with self._wake:
            self._closed = True
            self._tasks.clear()
            self._wake.notify()

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._closed and (not self._tasks or self._tasks[0][0] > time.monotonic()):
                    self._wake.wait(self._tasks[0][0] - time.monotonic() if self._tasks else None)
                if self._closed:
                    return
                _, _, task = heapq.heappop(self._tasks)
            try:
                task()
            except BaseException as error:  # noqa: BLE001  # one task's fault is not the others'
                emit(logging.ERROR, "steward.failed", error=repr(error))
            del task  # at rest it keeps no request alive
