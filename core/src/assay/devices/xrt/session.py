"""One opened NPU: contexts, buffers and runs, counted, and destroyed in the order that XRT survives."""

from __future__ import annotations

import atexit
import ctypes
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numpy as np

from assay.contract.capabilities import BufferFlag
from assay.contract.errors import DeviceLost
from assay.contract.operation import Array
from assay.devices.xrt.errors import is_transient, raised, unavailable

T = TypeVar("T")

ALIGNMENT = 64
"""Bytes between regions of one buffer: a cache line of the device's DMA."""

TRIES = 3
RETRY_S = 0.05
POLL_MS = 1
"""pyxrt holds the GIL while it waits: short waits let other threads live."""

SCALAR_BANK = 0xFFFF

DEVICE_STATES = frozenset({"TIMEOUT", "ABORT", "NORESPONSE", "SKCRASHED"})
"""Ends of a run that say more about the device (its watchdog, its firmware) than about the kernel."""


class Session:
    """One opened device of this process. Each construction of ``pyxrt.device`` opens it: there is one."""

    _open: dict[tuple[int, int], Session] = {}  # noqa: RUF012  # shared on purpose, guarded by the lock
    _lock = threading.Lock()

    def __init__(self, pyxrt: ModuleType, index: int) -> None:
        self.pyxrt = pyxrt
        self.index = index
        self.device = retried(lambda: pyxrt.device(index), f"opening NPU {index}")
        self.name = str(self.device.get_info(pyxrt.xrt_info_device.name))
        self.contexts: dict[str, Context] = {}
        self.closers: list[Callable[[], None]] = []
        """What holds runs and buffers on this device, to be closed before it."""
        self.users = 0

    @classmethod
    def open(cls, pyxrt: ModuleType, index: int) -> Session:
        """The session of a device, opened by the first user.

        Raises:
            DeviceUnavailable: It cannot be opened.
        """
        key = (id(pyxrt), index)
        with cls._lock:
            if key not in cls._open:
                cls._open[key] = cls(pyxrt, index)
            cls._open[key].users += 1
            return cls._open[key]

    def release(self) -> None:
        """One user less; the last one closes contexts, then the device."""
        with self._lock:
            self.users -= 1
            if self.users > 0:
                return
            self._open.pop((id(self.pyxrt), self.index), None)
        self._destroy()

    def _destroy(self) -> None:
        for close in list(self.closers):
            close()
        for context in list(self.contexts.values()):
            context.destroy()
        self.contexts.clear()
        self.device = None

    def context(self, xclbin: Path) -> Context:
        """A context for an xclbin file, shared by the kernels in it.

        Raises:
            DeviceUnavailable: XRT refuses the file, or there are no contexts left.
        """
        with self._lock:
            key = str(xclbin.resolve())
            if key not in self.contexts:
                self.contexts[key] = Context(self, xclbin, key)
            self.contexts[key].users += 1
            return self.contexts[key]

    def flag(self, flag: BufferFlag) -> Any:
        """pyxrt's own flag."""
        return getattr(self.pyxrt.bo.flags, flag.value)

    def try_buffer(self, size: int, flag: BufferFlag) -> None:
        """Allocate and free.

        Raises:
            RuntimeError: XRT's own.
        """
        buffer = self.pyxrt.bo(self.device, size, self.flag(flag), 0)
        del buffer


class Context:
    """A hardware context for one xclbin. A device has few: they are shared and counted."""

    def __init__(self, session: Session, xclbin: Path, key: str) -> None:
        pyxrt = session.pyxrt
        self.session, self.key, self.users = session, key, 0
        self.image = retried(lambda: pyxrt.xclbin(str(xclbin)), f"reading {xclbin.name}")
        self.arguments = {kernel.get_name(): kernel.get_num_args() for kernel in self.image.get_kernels()}
        uuid = retried(lambda: session.device.register_xclbin(self.image), f"registering {xclbin.name}")
        self.handle = retried(lambda: pyxrt.hw_context(session.device, uuid), f"a context for {xclbin.name}")

    def kernel(self, name: str) -> Any:
        """A kernel handle.

        Raises:
            LookupError: The xclbin holds no kernel of that name.
            DeviceUnavailable: XRT refuses.
        """
        if name not in self.arguments:
            known = ", ".join(sorted(self.arguments)) or "none"
            raise LookupError(f"{Path(self.key).name} holds no kernel {name!r}; it holds: {known}")
        return retried(lambda: self.session.pyxrt.kernel(self.handle, name), f"kernel {name}")

    def release(self) -> None:
        """One user less; the last one gives the context back."""
        with Session._lock:
            self.users -= 1
            if self.users > 0:
                return
            self.session.contexts.pop(self.key, None)
        self.destroy()

    def destroy(self) -> None:
        """Give the context back."""
        self.handle = self.image = None


class Region:
    """One argument's part of a root buffer: the host's bytes, and their synchronisation."""

    def __init__(self, session: Session, root: Any, size: int, offset: int) -> None:
        # Parts are always of the root: the offsets of a part of a part disagree between host and device.
        self.bo = session.pyxrt.bo(root, size, offset)
        self.view = np.frombuffer(self.bo.map(), np.uint8, size)  # map() alone does not keep the buffer
        self._directions = session.pyxrt.xclBOSyncDirection

    def to_device(self) -> None:
        """Make the host's bytes the device's."""
        self.bo.sync(self._directions.XCL_BO_SYNC_BO_TO_DEVICE)

    def from_device(self) -> None:
        """Make the device's bytes the host's."""
        self.bo.sync(self._directions.XCL_BO_SYNC_BO_FROM_DEVICE)

    def array(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
        """The host's bytes as an array."""
        count = int(np.prod(shape))
        return self.view[: count * dtype.itemsize].view(dtype).reshape(shape)


class Buffers:
    """Root buffers, one per memory bank, cut into regions 64 bytes apart.

    Args:
        wanted: (bytes, group id) of each region.

    Raises:
        RuntimeError: XRT refuses the allocation.
        ValueError: An argument is a scalar and takes no buffer.
    """

    def __init__(self, session: Session, flag: BufferFlag, wanted: Sequence[tuple[int, int]]) -> None:
        self.roots: list[Any] = []
        self.regions: list[Region] = []
        layout: dict[int, int] = {}
        places: list[tuple[int, int]] = []
        for position, (size, group) in enumerate(wanted):
            if group & 0xFFFF == SCALAR_BANK:
                raise ValueError(
                    f"argument of buffer {position} is a scalar in this kernel and takes no buffer"
                )
            places.append((group, layout.get(group, 0)))
            layout[group] = places[-1][1] + -(-size // ALIGNMENT) * ALIGNMENT
        roots = {
            group: session.pyxrt.bo(session.device, size, session.flag(flag), group)
            for group, size in layout.items()
        }
        self.roots.extend(roots.values())
        for (size, _), (group, offset) in zip(wanted, places, strict=True):
            self.regions.append(Region(session, roots[group], size, offset))

    def close(self) -> None:
        """Free them; views of them are no longer valid."""
        self.regions.clear()
        self.roots.clear()


class Run:
    """A restartable run, whose end is always seen before it is started again or destroyed."""

    def __init__(self, session: Session, kernel: Any, arguments: Sequence[Any]) -> None:
        self.session = session
        self.handle = session.pyxrt.run(kernel)
        self.running = False
        # set_arg reports what a direct call of the kernel would swallow.
        for index, argument in enumerate(arguments):
            self.handle.set_arg(index, argument)

    def start(self) -> None:
        """Launch.

        Raises:
            DeviceLost, RuntimeError: XRT refuses.
        """
        try:
            self.handle.start()
        except RuntimeError as error:
            raise raised(error, "start") from error
        self.running = True

    def wait(self, timeout_s: float) -> None:
        """Wait for COMPLETED, in short polls.

        Raises:
            TimeoutError: It still runs.
            DeviceLost: The watchdog ended it, or the device is gone.
            RuntimeError: It ended otherwise.
        """
        states = self.session.pyxrt.ert_cmd_state
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                state = self.handle.wait(POLL_MS)
                if state == states.ERT_CMD_STATE_TIMEOUT and not self._ended(states):
                    if time.monotonic() >= deadline:
                        raise TimeoutError(f"the kernel did not end within {timeout_s:g} s")
                    continue
            except RuntimeError as error:
                raise raised(error, "wait") from error
            self.running = False
            if state == states.ERT_CMD_STATE_COMPLETED:
                return
            what = f"the run ended in state {state.name}, not COMPLETED"
            if state.name.removeprefix("ERT_CMD_STATE_") in DEVICE_STATES:
                raise DeviceLost(what)
            raise RuntimeError(what)

    def _ended(self, states: Any) -> bool:
        """Whether TIMEOUT was the run's own end (the watchdog's) and not only that of the poll."""
        return self.handle.state() in (
            states.ERT_CMD_STATE_TIMEOUT,
            states.ERT_CMD_STATE_COMPLETED,
            states.ERT_CMD_STATE_ERROR,
            states.ERT_CMD_STATE_ABORT,
        )

    def close(self, timeout_s: float = 3.0) -> None:
        """Destroy it when it has ended; one that never ends is kept for ever, since XRT 2.23 would abort."""
        if self.running:
            try:
                self.wait(timeout_s)
            except TimeoutError:
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.handle))
            except (RuntimeError, DeviceLost, MemoryError):
                pass
        self.handle = None


def retried(call: Callable[[], T], what: str) -> T:
    """Call, and again a moment later if the failure is of the kind that passes.

    Raises:
        DeviceUnavailable: It failed for good.
    """
    for left in reversed(range(TRIES)):
        try:
            return call()
        except RuntimeError as error:
            if not left or not is_transient(error):
                raise unavailable(error, what) from error
            time.sleep(RETRY_S)
    raise AssertionError("unreachable")


@atexit.register
def _close_all() -> None:
    """At the interpreter's end the order of destruction is not ours, so everything is closed before."""
    for session in list(Session._open.values()):
        session._destroy()
    Session._open.clear()
