"""One opened NPU: its contexts, counted and shared, destroyed in the order that XRT survives."""

from __future__ import annotations

import atexit
import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from assay.contract.capabilities import BufferFlag
from assay.contract.errors import DeviceUnavailable
from assay.contract.reasons import ReasonCode
from assay.devices.xrt.errors import retried

CONTEXTS = {"npu1": 6, "npu2": 16}
"""How many contexts a device has, for all processes together."""


class Session:
    """One opened device of this process. Each construction of ``pyxrt.device`` opens it: there is one."""

    opened: ClassVar[dict[tuple[int, int], Session]] = {}
    lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, pyxrt: ModuleType, index: int) -> None:
        self.pyxrt, self.index = pyxrt, index
        self.device: Any = None
        self.contexts: dict[str, Context] = {}
        self.closers: list[Callable[[], None]] = []
        """What holds runs and buffers on this device, to be closed before it."""
        self.users = 0
        self.lost = False
        """Whether the device was seen to be gone; the next user opens it anew."""
        self.life = 0
        """Counts how often it was opened; handles of an earlier life are dead."""
        self._open()
        what = f"asking NPU {index} for its name"
        self.name = retried(lambda: str(self.device.get_info(pyxrt.xrt_info_device.name)), what)

    @classmethod
    def open(cls, pyxrt: ModuleType, index: int) -> Session:
        """The session of a device, opened by the first user.

        Raises:
            DeviceUnavailable: It cannot be opened.
        """
        key = (id(pyxrt), index)
        with cls.lock:
            if key not in cls.opened:
                cls.opened[key] = cls(pyxrt, index)
            cls.opened[key].users += 1
            return cls.opened[key]

    def release(self) -> None:
        """One user less; the last one closes contexts, then the device."""
        key = (id(self.pyxrt), self.index)
        with self.lock:
            self.users -= 1
            if self.users > 0:
                return
            if self.opened.get(key) is self:
                del self.opened[key]
        self.destroy()

    def destroy(self) -> None:
        """Close what is open: runs and buffers, kernels, contexts, the device."""
        for close in list(self.closers):
            close()
        for context in list(self.contexts.values()):
            context.destroy()
        self.contexts.clear()
        self.device = None

    def renew(self) -> int:
        """Open the device anew if it was lost; returns its life. Handles of the one before stay dead.

        Raises:
            DeviceUnavailable: It is still gone.
        """
        with self.lock:
            if self.lost:
                self.device, self.contexts = None, {}
                self._open()
                self.lost = False
            return self.life

    def _open(self) -> None:
        self.device = retried(lambda: self.pyxrt.device(self.index), f"opening NPU {self.index}")
        self.life += 1

    def context(self, xclbin: Path) -> Context:
        """A context for an xclbin file, shared by the kernels in it.

        Raises:
            DeviceUnavailable: XRT refuses the file, or there are no contexts left.
        """
        key = str(xclbin.resolve())
        with self.lock:
            if key not in self.contexts:
                self.contexts[key] = Context(self, xclbin, key)
            self.contexts[key].users += 1
            return self.contexts[key]

    def flag(self, flag: BufferFlag) -> Any:
        """pyxrt's own flag."""
        return getattr(self.pyxrt.bo.flags, flag.value)


class Context:
    """A hardware context for one xclbin. A device has few: they are shared and counted."""

    def __init__(self, session: Session, xclbin: Path, key: str) -> None:
        pyxrt = session.pyxrt
        self.session, self.key, self.users = session, key, 0
        self.name = xclbin.name
        self.kernels: dict[str, Any] = {}
        # pyxrt takes a str only.
        self.image: Any = retried(lambda: pyxrt.xclbin(str(xclbin)), f"reading {self.name}")
        self.arguments = {kernel.get_name(): kernel.get_num_args() for kernel in self.image.get_kernels()}
        uuid = retried(lambda: session.device.register_xclbin(self.image), f"registering {self.name}")
        try:
            self.handle: Any = retried(
                lambda: pyxrt.hw_context(session.device, uuid), f"a context for {self.name}"
            )
        except DeviceUnavailable as error:
            if error.code != ReasonCode.DEVICE_BUSY:
                raise
            # Drivers say the same when a design is for another generation.
            held = f"this process holds {len(session.contexts)} of the NPU's contexts"
            text = f"{error} ({held}; or {self.name} was built for another generation than {session.name})"
            raise DeviceUnavailable(error.code, text, error.remedy) from error

    def kernel(self, name: str) -> Any:
        """A kernel's handle.

        Raises:
            LookupError: The xclbin holds no kernel of that name.
            DeviceUnavailable: XRT refuses.
        """
        if name not in self.arguments:
            known = ", ".join(sorted(self.arguments)) or "none: is the file whole?"
            raise LookupError(f"{self.name} holds no kernel {name!r}; it holds: {known}")
        if name not in self.kernels:
            make = self.session.pyxrt.kernel
            self.kernels[name] = retried(lambda: make(self.handle, name), f"kernel {name} of {self.name}")
        return self.kernels[name]

    def release(self) -> None:
        """One user less; the last one gives the context back."""
        contexts = self.session.contexts
        with Session.lock:
            self.users -= 1
            if self.users > 0:
                return
            if contexts.get(self.key) is self:
                del contexts[self.key]
        self.destroy()

    def destroy(self) -> None:
        """Give the context back, its kernels first."""
        self.kernels.clear()
        self.handle = self.image = None


def keep_for_ever(what: object) -> None:
    """Never destroy an object: some of XRT's end the process when they are."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(what))


@atexit.register
def _close_all() -> None:
    """At the interpreter's end the order of destruction is not ours, so everything is closed before."""
    while Session.opened:
        Session.opened.popitem()[1].destroy()


def _disown() -> None:
    """A child after fork keeps its hands off the parent's device, whose contexts it would destroy."""
    Session.lock = threading.Lock()  # another thread of the parent may have held it
    for session in Session.opened.values():
        keep_for_ever(session)
    Session.opened.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown)
