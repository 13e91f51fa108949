"""A restartable run, whose end is always seen before it is started again or destroyed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from assay.contract.errors import DeviceLost
from assay.devices.xrt.errors import raised

POLL_MS = 1
"""pyxrt holds the GIL while it waits: short waits let other threads live."""

ENDED = frozenset({"COMPLETED", "ERROR", "ABORT", "TIMEOUT", "NORESPONSE", "SKERROR", "SKCRASHED"})
DEVICE_ENDED = frozenset({"ABORT", "TIMEOUT", "NORESPONSE", "SKCRASHED"})
"""Ends of a run that say more about the device (its watchdog, its firmware) than about the kernel."""


class Run:
    """The arguments of a kernel, and one execution of it at a time."""

    def __init__(self, pyxrt: ModuleType, kernel: Any, arguments: Mapping[int, Any]) -> None:
        self._completed = pyxrt.ert_cmd_state.ERT_CMD_STATE_COMPLETED
        self._timeout = pyxrt.ert_cmd_state.ERT_CMD_STATE_TIMEOUT
        self.handle = pyxrt.run(kernel)
        self.running = False
        self.hung = False
        # set_arg reports what a direct call of the kernel would swallow.
        for index, argument in arguments.items():
            self.handle.set_arg(index, argument)

    def start(self) -> None:
        """Launch.

        Raises:
            DeviceLost, MemoryError, RuntimeError: XRT refuses.
        """
        try:
            self.handle.start()
        except RuntimeError as error:
            raise raised(error, "start") from error
        self.running = True

    def wait(self, timeout_s: float) -> None:
        """Wait for COMPLETED, in short polls.

        Raises:
            DeviceLost: It did not end in time, or the device's watchdog ended it, or the device is gone.
            RuntimeError: It ended otherwise.
        """
        deadline = time.monotonic() + timeout_s
        try:
            state = self._poll()
            while state is None:
                if time.monotonic() >= deadline:
                    self.hung = True
                    raise DeviceLost(f"the run did not end within {timeout_s:g} s")
                time.sleep(0)  # without it other threads get the GIL once in 5 ms, not after each poll
                state = self._poll()
        except RuntimeError as error:
            raise raised(error, "wait") from error
        if state != "COMPLETED":
            what = f"the run ended in state {state}, not COMPLETED"
            raise DeviceLost(what) if state in DEVICE_ENDED else RuntimeError(what)

    def _poll(self) -> str | None:
        """The state in which it ended, or None."""
        state = self.handle.wait(POLL_MS)
        if state == self._completed:
            self.running = False
            return "COMPLETED"
        # TIMEOUT is the end of the poll, or of the run.
        return self._end(self.handle.state() if state == self._timeout else state)

    def _end(self, state: Any) -> str | None:
        """The name of a state in which a run has ended, or None."""
        name = str(state.name).removeprefix("ERT_CMD_STATE_")
        if name not in ENDED:
            return None
        self.running = False
        return name

    def close(self, timeout_s: float) -> bool:
        """Destroy it once it has ended.

        Returns:
            False if it has not: then neither it nor its buffers may ever be destroyed.
        """
        deadline = time.monotonic() + (0.0 if self.hung else timeout_s)
        while self.running:
            try:
                ended = self._poll()
            except RuntimeError:  # waiting itself may fail; the state may be known all the same
                ended = self._end(self.handle.state())
            if ended is None and time.monotonic() >= deadline:
                return False
            time.sleep(0)
        self.handle = None
        return True
