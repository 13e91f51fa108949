"""``pyxrt.bo``."""

import ctypes
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import numpy as np
import numpy.typing as npt

from . import enums
from .bound import NEW_API, SIZE, UNSIGNED, Bound, integer, refuse
from .engine import Bytes, Memory, Region
from .faults import Step
from .handles import Device, HwContext

if TYPE_CHECKING:
    from .lease import Lease

_TO_DEVICE = enums.xclBOSyncDirection.XCL_BO_SYNC_BO_TO_DEVICE
_FROM_DEVICE = enums.xclBOSyncDirection.XCL_BO_SYNC_BO_FROM_DEVICE

POISON = 0xDB
"""What a dangling ``map()`` reads, and what lies behind the end of a caller's array."""


class Bo(Bound):
    """``pyxrt.bo``: a buffer, or a part of one."""

    __slots__ = ("_device_lo", "_lease", "_lo", "_memory", "_owner", "_size", "region")
    flags: ClassVar[type] = enums.flags
    normal: ClassVar[enums.flags] = enums.flags.normal
    cacheable: ClassVar[enums.flags] = enums.flags.cacheable
    svm: ClassVar[enums.flags] = enums.flags.svm
    device_only: ClassVar[enums.flags] = enums.flags.device_only
    host_only: ClassVar[enums.flags] = enums.flags.host_only
    p2p: ClassVar[enums.flags] = enums.flags.p2p

    def __init__(self, *args: Any) -> None:
        self._memory: Memory
        self._owner: Device | HwContext | Bo | None = None
        self._lease: Lease | None = None
        if len(args) == 3 and isinstance(args[0], Bo):
            self._part_of(args)
            return
        whole = args
        if len(args) == 3 and self._sim.version >= NEW_API:  # (context, size, group) means normal flags
            whole = (args[0], args[1], enums.flags.normal, args[2])
        size = integer(whole[1], 0, SIZE) if len(whole) == 4 else None
        group = integer(whole[3], 0, UNSIGNED) if len(whole) == 4 else None
        owned = len(whole) == 4 and isinstance(whole[0], Device | HwContext)
        if size is None or group is None or not owned or not isinstance(whole[2], enums.flags):
            self._no_overload(args)
        self._memory, self._lease = self._sim.allocate(size, whole[2], group)
        self._owner = whole[0]
        self._size = size
        self._lo = self._device_lo = 0
        self.region = Region(self._memory, 0, size)

    def _part_of(self, args: tuple[Any, ...]) -> None:
        parent, size, offset = args[0], integer(args[1], 0, SIZE), integer(args[2], 0, SIZE)
        if size is None or offset is None:
            self._no_overload(args)
        if size + offset > parent._size:
            raise RuntimeError("sub buffer size and offset: Invalid argument")
        self._owner, self._memory, self._size = parent, parent._memory, size
        # In a part of a part the host's offsets add up; the device's address counts the last one only.
        self._lo = parent._lo + offset
        self._device_lo = offset
        self.region = Region(self._memory, offset, offset + size)
        self._lease = self._sim.lease("buffers")

    def __del__(self) -> None:
        # Python destroys an object even if its arguments never got as far as __init__.
        if getattr(self, "_lease", None) is None or isinstance(self._owner, Bo):
            return
        memory = self._memory
        if memory.in_flight:
            self._sim.engine.touch("destruction", memory, 0, self._size)
        memory.host.fill(POISON)  # what a view from map() reads from now on

    def _no_overload(self, args: tuple[object, ...]) -> NoReturn:
        refuse(
            "__init__",
            args,
            "pyxrt.bo(arg0: pyxrt.device, arg1: int, arg2: pyxrt.bo.flags, arg3: int)",
            "pyxrt.bo(arg0: pyxrt.hw_context, arg1: int, arg2: pyxrt.bo.flags, arg3: int)",
            "pyxrt.bo(arg0: pyxrt.bo, arg1: int, arg2: int)",
        )

    def write(self, data: Any, seek: int, /) -> None:
        """Copy ``data`` into the host's side at byte ``seek`` **as if it had no strides**."""
        sim, at = self._sim, integer(seek, 0, SIZE)
        if sim.troubled:
            sim.check(Step.WRITE)
        flat = _bytes_from(data)
        if at is None or flat is None:
            refuse("write", (self, data, seek), "(self: pyxrt.bo, arg0: buffer, arg1: int) -> None")
        if at + flat.size > self._size:
            raise RuntimeError("attempting to write past buffer size: Invalid argument")
        lo, memory = self._lo + at, self._memory
        if memory.in_flight:
            sim.engine.touch("write", memory, lo, lo + flat.size)
        memory.host[lo : lo + flat.size] = flat

    def read(self, size: int, skip: int, /) -> npt.NDArray[np.int8]:
        """Return ``size`` bytes of the host's side from byte ``skip`` on, as a new int8 array."""
        count, at = integer(size, 0, SIZE), integer(skip, 0, SIZE)
        if self._sim.troubled:
            self._sim.check(Step.READ)
        if count is None or at is None:
            signature = "(self: pyxrt.bo, arg0: int, arg1: int) -> numpy.ndarray[numpy.int8]"
            refuse("read", (self, size, skip), signature)
        if count + at > self._size:
            raise RuntimeError("attempting to read past buffer size: Invalid argument")
        lo = self._lo + at
        return self._memory.host[lo : lo + count].view(np.int8).copy()

    def sync(self, direction: enums.xclBOSyncDirection, /, *part: int) -> None:
        """Copy the whole buffer, or ``size, offset`` of it, between the host's side and the device's."""
        sim, memory = self._sim, self._memory
        if sim.troubled:
            sim.check(Step.SYNC)
        engine, clock = sim.engine, sim.clock
        size, offset = (self._size, 0) if not part else self._checked(direction, part)
        begin = clock.now()
        engine.settle()
        lo = self._lo + offset
        hi = lo + size
        if direction is _TO_DEVICE:
            if memory.in_flight:
                engine.touch("sync to the device", memory, lo, hi)
            memory.device[lo:hi] = memory.host[lo:hi]
        elif direction is _FROM_DEVICE:
            memory.host[lo:hi] = memory.device[lo:hi]
        else:
            self._no_sync(direction, part)
        clock.wait_until(begin + size / engine.timing.bytes_per_second)

    def _checked(self, direction: object, part: tuple[int, ...]) -> tuple[int, int]:
        size, offset = (integer(p, 0, SIZE) for p in part) if len(part) == 2 else (None, None)
        if size is None or offset is None:
            self._no_sync(direction, part)
        if size + offset > self._size:
            if isinstance(self._owner, Bo):
                raise RuntimeError("Invalid offset and size when syncing sub buffer: Invalid argument")
            raise RuntimeError(
                f"Invalid BO offset and size for sync'ing: {offset}, {size} (err=22): Invalid argument"
            )
        return size, offset

    def _no_sync(self, direction: object, part: tuple[int, ...]) -> NoReturn:
        refuse(
            "sync",
            (self, direction, *part),
            "(self: pyxrt.bo, arg0: pyxrt.xclBOSyncDirection, arg1: int, arg2: int) -> None",
            "(self: pyxrt.bo, arg0: pyxrt.xclBOSyncDirection) -> None",
        )

    def map(self, /) -> memoryview:
        """Return a writable view of the host's side, which **does not keep the buffer alive**."""
        if self._sim.troubled:
            self._sim.check(Step.MAP)
        return self._memory.host[self._lo : self._lo + self._size].data

    def size(self, /) -> int:
        """Return the size in bytes."""
        return self._size

    def address(self, /) -> int:
        """Return the address on the device."""
        return self._memory.address + self._device_lo


def _bytes_from(data: Any) -> Bytes | None:
    """Return ``nbytes`` bytes from the start of ``data`` on, strides ignored; None if it has no buffer."""
    if isinstance(data, np.ndarray):
        array = data
    else:
        try:
            view = memoryview(data)
        except TypeError:
            return None
        if view.c_contiguous:
            return np.frombuffer(view.cast("B"), np.uint8) if view.nbytes else np.empty(0, np.uint8)
        array = np.asarray(view)
    if array.flags.c_contiguous:
        return array.reshape(-1).view(np.uint8)
    # Backward and repeating arrays own fewer bytes from their start on than are read: what lies behind them
    # is garbage.
    nbytes = array.nbytes
    owned = nbytes if min(array.strides) > 0 else array.itemsize
    raw = np.frombuffer(ctypes.string_at(array.ctypes.data, min(owned, nbytes)), np.uint8)
    return np.concatenate([raw, np.full(nbytes - raw.size, POISON, np.uint8)])
