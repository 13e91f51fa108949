"""A queue whose reader is woken only when as much has come as it waits for: waking a thread is dear."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Inbox(Generic[T]):
    """Many threads put, one takes. Who has put the only thing there may do the reader's work itself."""

    def __init__(self) -> None:
        self._things: list[T] = []
        self._lock = threading.Lock()
        self._bell = threading.Lock()  # held while it is silent
        self._bell.acquire()
        self._wanted = 0
        """How many the reader waits for; 0: it does not wait."""
        self._at_rest = False
        self._held = False

    def put(self, thing: T) -> None:
        """Add one."""
        with self._lock:
            self._things.append(thing)
            self._ring()

    def take(self, wanted: int = 0, wait_s: float = -1) -> list[T]:
        """Everything that has come, once there are ``wanted`` or the time is over (-1: it never is)."""
        with self._lock:
            if len(self._things) >= wanted and not self._held:
                return self._all()
            self._wanted, self._at_rest = wanted, wait_s < 0
        while True:
            rang = self._bell.acquire(timeout=wait_s)
            with self._lock:
                if not rang and not self._wanted:  # it rang at the last moment
                    self._bell.acquire()
                if wait_s < 0 and (self._held or len(self._things) < wanted):
                    self._wanted = wanted  # what it rang for was withdrawn
                else:
                    return self._all()

    def withdraw(self, thing: T) -> bool:
        """Take back the only thing there, if the reader is at rest; then it stays so until ``resume``."""
        with self._lock:
            mine = self._at_rest and not self._held and len(self._things) == 1 and self._things[0] is thing
            if mine:
                self._things, self._held = [], True
            return mine

    def resume(self) -> None:
        """Let the reader have what has come meanwhile."""
        with self._lock:
            self._held = False
            self._ring()

    def _ring(self) -> None:
        if 0 < self._wanted <= len(self._things) and not self._held:
            self._wanted = 0
            self._bell.release()

    def _all(self) -> list[T]:
        self._wanted, self._at_rest = 0, False
        things, self._things = self._things, []
        return things
