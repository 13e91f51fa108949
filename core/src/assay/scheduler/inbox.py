"""A queue whose reader is woken only when as much has come as it waits for: waking a thread is dear."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Inbox(Generic[T]):
    """Many threads put, one takes."""

    def __init__(self) -> None:
        self._things: list[T] = []
        self._lock = threading.Lock()
        self._bell = threading.Lock()  # held while it is silent
        self._bell.acquire()
        self._wanted = 0
        """How many the reader waits for; 0: it does not wait."""

    def put(self, thing: T) -> None:
        """Add one."""
        with self._lock:
            self._things.append(thing)
            if 0 < self._wanted <= len(self._things):
                self._wanted = 0
                self._bell.release()

    def take(self, wanted: int = 0, wait_s: float = -1) -> list[T]:
        """Everything that has come, once there are ``wanted`` or the time is over (-1: it never is)."""
        with self._lock:
            if len(self._things) >= wanted:
                things, self._things = self._things, []
                return things
            self._wanted = wanted
        rang = self._bell.acquire(timeout=wait_s)
        with self._lock:
            if not rang and not self._wanted:  # it rang at the last moment
                self._bell.acquire()
            self._wanted = 0
            things, self._things = self._things, []
            return things
