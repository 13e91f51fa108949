"""One simulated machine with one NPU, and the module that stands for pyxrt on it."""

import importlib
import importlib.machinery
import math
import os
import random
import signal
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, NoReturn, Self, TypeVar

from . import enums
from .bo import Bo
from .bound import NEW_API
from .clock import Clock, SpinClock, VirtualClock, sleep_with_gil
from .engine import Engine, Memory, Program
from .errors import SimulatedCrash, SimulatedHang
from .faults import Fault, FaultPlan, Injection, Kind, Step
from .handles import Device, HwContext, Kernel, Uuid, Xclbin, XclbinKernel, XclbinMem
from .images import KernelImage, XclbinImage, write_instructions, write_xclbin
from .lease import Lease, Live, Tally
from .profiles import MIB, PROFILES, DeviceProfile, Timing
from .run import Run

T = TypeVar("T")

VERSIONS = ("2.20", "2.25")
"""The releases of XRT whose behaviour can be chosen."""

_HEAP = 64 * MIB  # what opening a device locks

_FAILURES = {
    Step.OPEN: "No such device with index '0'",
    Step.REGISTER: "register_xclbin: Input/output error",
    Step.CONTEXT: "DRM_IOCTL_AMDXDNA_CREATE_HWCTX IOCTL failed (err=-22): Invalid argument",
    Step.KERNEL: "DRM_IOCTL_AMDXDNA_CONFIG_HWCTX IOCTL failed (err=-22): Invalid argument",
    Step.ALLOCATE: "DRM_IOCTL_AMDXDNA_CREATE_BO IOCTL failed (err=-12): Cannot allocate memory",
    Step.MAP: "buffer is not mapped: Invalid argument",
    Step.WRITE: "buffer is not mapped: Invalid argument",
    Step.SYNC: "DRM_IOCTL_AMDXDNA_SYNC_BO IOCTL failed (err=-5): Input/output error",
    Step.START: "DRM_IOCTL_AMDXDNA_EXEC_CMD IOCTL failed (err=-5): Input/output error",
    Step.WAIT: "DRM_IOCTL_AMDXDNA_WAIT_CMD IOCTL failed (err=-5): Input/output error",
    Step.READ: "buffer is not mapped: Invalid argument",
}
_GONE = {
    Step.OPEN: "No such device with index '0'",
    Step.REGISTER: "register_xclbin: No such device",
    Step.CONTEXT: "DRM_IOCTL_AMDXDNA_CREATE_HWCTX IOCTL failed (err=-19): No such device",
    Step.KERNEL: "DRM_IOCTL_AMDXDNA_CONFIG_HWCTX IOCTL failed (err=-19): No such device",
    Step.ALLOCATE: "DRM_IOCTL_AMDXDNA_CREATE_BO IOCTL failed (err=-19): No such device",
    Step.SYNC: "DRM_IOCTL_AMDXDNA_SYNC_BO IOCTL failed (err=-19): No such device",
    Step.START: "DRM_IOCTL_AMDXDNA_EXEC_CMD IOCTL failed (err=-19): No such device",
}
"""What the calls that need the device say once it is gone; the others still work on the host's memory."""


class Simulator:
    """A machine with an NPU; ``module`` is its ``pyxrt``.

    Args:
        profile: a name in ``PROFILES`` or a profile.
        xrt: ``"2.20"`` or ``"2.25"``. The later one aborts when an unfinished run is destroyed, takes more
            forms of ``hw_context`` and words some errors otherwise.
        clock: ``"virtual"`` (waits take no real time), ``"spin"`` (real time), or a ``Clock``.
        timing: how long things take.
        seed: for everything random, so that a failure can be repeated.
        memory: byte that new memory is filled with; None for random bytes.
        leak: chance that a buffer's bytes reach the other side without a sync, as when a cache
            writes a line back: a missing sync then works now and then, as on hardware.
        fatal: ``"raise"`` turns what would end or stop the process into ``SimulatedCrash`` and
            ``SimulatedHang``; ``"real"`` does it.

    Attributes:
        module: what to use in the place of ``import pyxrt``.
        profile, version, engine: as given; ``engine.clock`` is the clock.
        crashes: why the process would have died. After the first, every call raises it again.

    Raises:
        ValueError: unknown profile, release or clock.
    """

    def __init__(
        self,
        profile: str | DeviceProfile = "phoenix",
        *,
        xrt: str = "2.20",
        clock: Literal["virtual", "spin"] | Clock = "virtual",
        timing: Timing | None = None,
        seed: int = 0,
        memory: int | None = 0xA5,
        leak: float = 0.0,
        fatal: Literal["raise", "real"] = "raise",
    ) -> None:
        if isinstance(profile, str) and profile not in PROFILES:
            raise ValueError(f"unknown profile '{profile}': there are {', '.join(PROFILES)}")
        if xrt not in VERSIONS:
            raise ValueError(f"unknown XRT release '{xrt}': there are {', '.join(VERSIONS)}")
        if clock not in ("virtual", "spin") and isinstance(clock, str):
            raise ValueError(f"unknown clock '{clock}': there are virtual, spin, or an object of type Clock")
        self.profile = PROFILES[profile] if isinstance(profile, str) else profile
        self.xrt = xrt
        self.version = tuple(int(part) for part in xrt.split("."))
        rng = random.Random(seed)
        if isinstance(clock, str):
            clock = VirtualClock() if clock == "virtual" else SpinClock()
        self.faults = FaultPlan(rng)
        self.engine = Engine(self.profile, clock, timing or Timing(), self.faults, rng, leak)
        self.tally = Tally()
        self.crashes: list[str] = []
        self.troubled = False
        self.registered: dict[str, XclbinImage] = {}
        self._fill = memory
        self._fatal = fatal
        self._programs: dict[str, Program] = {}
        self._slots: set[int] = set()
        self._locked = 0
        self.classes: dict[str, Any] = {}
        self.module = self._build_module()

    # ------------------------------------------------------------------ for tests

    @property
    def clock(self) -> Clock:
        """The machine's time."""
        return self.engine.clock

    @property
    def live(self) -> Live:
        """Handles that exist now; equal to ``Live()`` when nothing has leaked."""
        return self.tally.live()

    @property
    def races(self) -> list[str]:
        """Host writes into buffers that a run in flight was using: each is a bug of the driver."""
        return self.engine.races

    def register(self, program: str, function: Program) -> None:
        """Let xclbin files name ``function`` as ``program``.

        Args:
            program: the name in ``KernelImage.program``. One of the form ``"package.module:function"``
                needs no registration.
            function: called as ``function(*buffers)`` with the device memory of every argument after the
                first three, in order: writable uint8 arrays, flat, as long as the buffer. It writes its
                outputs into them. If it raises, the run ends in state ERROR, and ``kernel_errors`` says why.
        """
        self._programs[program] = function

    @property
    def kernel_errors(self) -> Sequence[tuple[str, Exception]]:
        """The last exceptions that host functions raised, with the program's name."""
        return self.engine.kernel_errors

    def write_xclbin(
        self, path: str | Path, kernels: Sequence[KernelImage], *, generation: str | None = None
    ) -> Path:
        """Write a fake xclbin for this machine's NPU; see ``images.write_xclbin``."""
        return write_xclbin(path, kernels, generation=generation or self.profile.generation)

    def write_instructions(self, path: str | Path, program: str, words: int = 64) -> Path:
        """Write the instruction file of a program; see ``images.write_instructions``."""
        return write_instructions(path, program, words)

    def write_system(self, root: str | Path) -> Path:
        """Write what Linux and XRT show of this machine under ``root``: /dev, /sys and /opt/xilinx/xrt."""
        root = Path(root)
        files = {"opt/xilinx/xrt/version.json": f'{{"BUILD_VERSION": "{self.xrt}.0"}}'}
        if self.profile.devices:
            files |= {
                "dev/accel/accel0": "",
                "sys/class/accel/accel0/device/vbnv": self.profile.name + "\n",
                "sys/class/accel/accel0/device/fw_version": self.profile.firmware + "\n",
                "sys/module/amdxdna/version": self.profile.driver + "\n",
            }
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        if self.profile.devices and not self.profile.permitted:
            (root / "dev/accel/accel0").chmod(0)
        return root

    def inject(self, fault: Fault) -> Injection:
        """Arm a fault and return its counters."""
        self.troubled = True
        return self.faults.add(fault)

    def clear_faults(self) -> None:
        """Disarm all faults. A device that is lost stays lost."""
        self.faults.clear()
        self._reconsider()

    def lose_device(self) -> None:
        """Take the device away, as when it is unplugged or its firmware dies."""
        self.troubled = True
        self.engine.lose()

    def return_device(self) -> None:
        """Bring it back."""
        self.engine.give_back()
        self._reconsider()

    @contextmanager
    def installed(self) -> Iterator[Self]:
        """Make ``import pyxrt`` find this module, within a ``with`` block."""
        previous = sys.modules.get("pyxrt")
        sys.modules["pyxrt"] = self.module
        try:
            yield self
        finally:
            if previous is None:
                sys.modules.pop("pyxrt", None)
            else:
                sys.modules["pyxrt"] = previous

    # ------------------------------------------------------- for the pyxrt classes

    def check(self, step: Step) -> None:
        """Raise what stands in the way of a call at ``step``: a crash before it, a fault, a lost device."""
        if self.crashes:
            raise SimulatedCrash(self.crashes[0])
        if not self.troubled:
            return
        fault = self.faults.strike(step)
        if fault is not None and fault.kind is Kind.LOST:
            self.engine.lose()
        if self.engine.lost and step in _GONE:
            raise RuntimeError(_GONE[step])
        if fault is not None:
            raise RuntimeError(fault.message or _FAILURES[step])

    def lease(self, kind: str, close: Callable[[], None] | None = None) -> Lease:
        """Count one more handle."""
        return Lease(self.tally, kind, close)

    def open_device(self, index: int) -> Lease:
        """Open the NPU, or raise what XRT raises."""
        self.check(Step.OPEN)
        if index >= self.profile.devices:
            raise RuntimeError(f"No such device with index '{index}'")
        if not self.profile.permitted:
            raise RuntimeError(f"Open /dev/accel/accel{index} failed {_error(-13)}")
        self._lock_memory(_HEAP)
        return self.lease("devices", partial(self._unlock_memory, _HEAP))

    def open_context(self, uuid: str) -> tuple[XclbinImage, int, Lease]:
        """Return a registered xclbin and a free slot for it."""
        self.check(Step.CONTEXT)
        image = self.registered.get(uuid)
        if image is None:
            raise RuntimeError(f"No xclbin with uuid '{uuid}' is registered: Invalid argument")
        failed = "DRM_IOCTL_AMDXDNA_CREATE_HWCTX IOCTL failed"
        if image.kernels and image.generation != self.profile.generation:
            raise RuntimeError(f"{failed} {_error(-22)}")
        free = set(range(1, self.profile.context_limit + 1)) - self._slots
        if not free:
            raise RuntimeError(f"{failed} {_error(-self.profile.context_errno)}")
        slot = min(free)
        self._slots.add(slot)
        return image, slot, self.lease("contexts", partial(self._slots.discard, slot))

    def program(self, name: str) -> Program:
        """Return the host function of a program.

        Raises:
            LookupError: nobody registered it and it names no importable function. That is a mistake in
                the test, not a behaviour of pyxrt.
        """
        if name not in self._programs:
            module, _, attribute = name.partition(":")
            try:
                self._programs[name] = getattr(importlib.import_module(module), attribute)
            except (ImportError, AttributeError, ValueError) as error:
                known = ", ".join(sorted(self._programs)) or "none"
                raise LookupError(
                    f"the xclbin names the program '{name}', which is neither registered (known: {known}) "
                    f"nor importable as package.module:function ({error}): "
                    f"call Simulator.register('{name}', function)"
                ) from error
        return self._programs[name]

    def allocate(self, size: int, kind: enums.flags, group: int) -> tuple[Memory, Lease]:
        """Return memory for a buffer, or raise what the driver raises for flags that an NPU lacks."""
        self.check(Step.ALLOCATE)
        if kind is enums.flags.normal:
            raise RuntimeError(f"unsupported buffer type: none flag {_error(95)}")
        if kind not in (enums.flags.host_only, enums.flags.cacheable):
            new = self.version >= NEW_API
            raise RuntimeError(f"Bad BO type. {_error(22)}" if new else f"Bad BO flags {_error(95)}")
        self._lock_memory(size)
        memory = self.engine.allocate(size, group & 0xFFFF, kind is enums.flags.cacheable, self._fill)
        return memory, self.lease("buffers", partial(self._unlock_memory, size))

    def made(self, value: T | None, what: str) -> T:
        """Return ``value``; a handle that was made empty has none, and using it crashes."""
        if value is None:
            self.segfault(f"{what} made empty and used")
        return value

    def segfault(self, what: str) -> NoReturn:
        """Die as from an invalid memory access."""
        self._die(f"segmentation fault: {what}", lambda: os.kill(os.getpid(), signal.SIGSEGV))
        raise SimulatedCrash(self.crashes[-1])

    def abort(self, what: str) -> None:
        """Die as from ``std::terminate``. Called from destructors, which can't raise: the next call does."""
        self._die(f"abort: {what}", os.abort)

    def hang(self, what: str) -> NoReturn:
        """Never return."""
        if self._fatal == "real":
            sleep_with_gil(math.inf)
        raise SimulatedHang(what)

    def _die(self, what: str, how: Callable[[], object]) -> None:
        self.crashes.append(what)
        self.troubled = True
        if self._fatal == "real":
            how()

    def _reconsider(self) -> None:
        self.troubled = bool(self.faults.injections or self.engine.lost or self.crashes)

    def _lock_memory(self, size: int) -> None:
        limit = self.profile.locked_memory
        if limit is not None and self._locked + size > limit:
            where = f"addr=0x0, len={size}, prot=3, flags=8193, offset=4294967296"
            raise RuntimeError(f"mmap({where}) failed {_error(-11)}")
        self._locked += size

    def _unlock_memory(self, size: int) -> None:
        self._locked -= size

    def _build_module(self) -> types.ModuleType:
        for base in (Uuid, XclbinKernel, XclbinMem, Xclbin, Device, HwContext, Kernel, Run, Bo):
            name = _NAMES.get(base, base.__name__.lower())
            members = {"_sim": self, "__module__": "pyxrt", "__slots__": (), "__doc__": base.__doc__}
            self.classes[name] = type(name, (base,), members)
        nested = {name: self.classes[name] for name in ("xclbinkernel", "xclbinmem")}
        for name, cls in nested.items():
            setattr(self.classes["xclbin"], name, cls)
        module = types.ModuleType("pyxrt", f"Stand-in for pyxrt of XRT {self.xrt}: nothing here is hardware.")
        # importlib.util.find_spec raises for a module without one
        module.__spec__ = importlib.machinery.ModuleSpec("pyxrt", None)
        enumerations = (enums.ert_cmd_state, enums.xclBOSyncDirection, enums.xrt_info_device)
        vars(module).update({e.__name__: e for e in enumerations})
        vars(module).update({name: cls for name, cls in self.classes.items() if name not in nested})
        vars(module).update(XCL_BO_FLAGS_NONE=0, enumerate_devices=self._enumerate_devices)
        return module

    def _enumerate_devices(self) -> int:
        return 0 if self.engine.lost else self.profile.devices


_NAMES: dict[type, str] = {HwContext: "hw_context"}


def _error(number: int) -> str:
    """Spell an error number as XRT does; negative where the kernel returned it, positive from the shim."""
    return f"(err={number}): {os.strerror(abs(number))}"
