"""Counting handles, so that a test can prove that none leaks."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Live:
    """Handles that exist. ``Live()`` is none at all."""

    devices: int = 0
    contexts: int = 0
    kernels: int = 0
    buffers: int = 0
    runs: int = 0


class Tally:
    """How many handles of each kind exist, and in which order the last thousand went.

    Appending to a list is atomic, and safe where taking a lock is not: a handle may be destroyed by the
    garbage collector at any point of any thread.
    """

    def __init__(self) -> None:
        self.alive: dict[str, list[None]] = {field.name: [] for field in fields(Live)}
        self.destroyed: deque[str] = deque(maxlen=1000)

    def live(self) -> Live:
        """Return the counts."""
        return Live(**{kind: len(alive) for kind, alive in self.alive.items()})


class Lease:
    """One counted handle, from construction to destruction; ``close`` gives back what it held."""

    __slots__ = ("_close", "_kind", "_tally")

    def __init__(self, tally: Tally, kind: str, close: Callable[[], None] | None = None) -> None:
        tally.alive[kind].append(None)
        self._tally, self._kind, self._close = tally, kind, close

    def __del__(self) -> None:
        if self._close is not None:
            self._close()
        self._tally.alive[self._kind].pop()
        self._tally.destroyed.append(self._kind)
