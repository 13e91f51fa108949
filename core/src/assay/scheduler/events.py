"""Run-time events: to the log at a limited rate with counts, and to the program's callbacks always."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from assay.contract.log import emit

Callback = Callable[[dict[str, Any]], None]

PERIOD_S = 5.0
"""One line per event and candidate in this time; the next one says how many were left out."""


class Events:
    """The events of one runtime."""

    def __init__(self) -> None:
        self._callbacks: dict[str, list[Callback]] = {}
        self._last: dict[tuple[str, ...], tuple[float, int]] = {}
        self._lock = threading.Lock()

    def on(self, event: str, callback: Callback) -> None:
        """Call back with the event's fields; "*" means every event."""
        with self._lock:
            self._callbacks.setdefault(event, []).append(callback)

    def emit(self, level: int, event: str, **fields: Any) -> None:
        """Tell the log and the program."""
        for callback in [*self._callbacks.get(event, ()), *self._callbacks.get("*", ())]:
            try:
                callback({"event": event, **fields})
            except Exception as error:  # noqa: BLE001  # an embedder's callback must not lose a request
                emit(logging.ERROR, "callback.failed", callback=repr(callback), error=repr(error))
        # A fall to an approximate plan, or another kind of failure, is not hidden by what came before it.
        key = (event, *(str(fields.get(name, "")) for name in ("candidate", "kind", "accuracy")))
        now = time.monotonic()
        with self._lock:
            last, left_out = self._last.get(key, (-PERIOD_S, 0))
            quiet = event in _REPEATED and now - last < PERIOD_S
            self._last[key] = (last, left_out + 1) if quiet else (now, 0)
        if not quiet:
            emit(level, event, **fields, **({"left_out": left_out} if left_out else {}))


_REPEATED = frozenset({"kernel.failed", "call.fell_back"})
