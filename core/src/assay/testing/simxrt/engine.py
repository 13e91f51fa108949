"""The simulated device: two copies of every buffer, and a queue that runs kernels one at a time, in order.

No thread computes. A run has a *deadline* on the clock, known when it is submitted; its host function is
called by whoever first looks at the device after that deadline, with the clock standing still. Until then the
device's memory is as the run found it, so a driver that reads too early sees what it would see on hardware.
"""

import math
import random
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .clock import Clock
from .faults import Fault, FaultPlan, Kind, Step
from .images import SCALARS, KernelImage, instruction_bytes
from .profiles import DeviceProfile, Timing

Bytes = npt.NDArray[np.uint8]
Program = Callable[..., Any]

PAGE = 4096
_UNREACHED = Fault(Step.RUN, Kind.WATCHDOG, count=None)
"""What becomes of a run whose instructions the device can't find."""

_END_STATE = {
    Kind.ERROR: "ERROR",
    Kind.ABORT: "ABORT",
    Kind.NO_RESPONSE: "NORESPONSE",
    Kind.LOST: "ABORT",
}


@dataclass(slots=True, eq=False)
class Memory:
    """One allocation: the same bytes in host memory and in device memory, and who is using them."""

    host: Bytes = field(repr=False)
    device: Bytes = field(repr=False)
    address: int
    bank: int
    cacheable: bool
    in_flight: list[tuple[int, int]] = field(default_factory=list)

    def busy(self, lo: int, hi: int) -> bool:
        """Say whether a run in flight uses any of the bytes ``lo`` to ``hi``."""
        return any(lo < b and a < hi for a, b in self.in_flight)


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """What a kernel argument points to: bytes ``lo`` to ``hi`` of the device's copy of ``memory``.

    ``private`` is a copy that nobody else sees: what becomes of a buffer in the wrong bank.
    """

    memory: Memory
    lo: int
    hi: int
    private: Bytes | None = field(default=None, repr=False)

    @property
    def bytes(self) -> Bytes:
        """Device memory as the kernel sees it: uint8, flat."""
        return self.memory.device[self.lo : self.hi] if self.private is None else self.private


Argument = int | Region | None


class Launch:
    """What a run will do, worked out once from its kernel and arguments."""

    __slots__ = ("_code", "_length", "image", "in_vain", "pins", "program", "regions", "untouched")

    def __init__(
        self, image: KernelImage, program: Program, args: Sequence[Argument], truncated: bool
    ) -> None:
        opcode, code, self._length = args[:SCALARS]
        data = list(args[SCALARS:])
        while data and data[-1] is None:  # fewer buffers than declared are fine
            data.pop()
        self.image = image
        self.program = program
        self.regions = [a for a in data if isinstance(a, Region)]
        self._code = code if isinstance(code, Region) and code.memory.cacheable else None
        self.in_vain = truncated or opcode != image.opcode or not data or len(self.regions) < len(data)
        self.untouched = any(r.memory.cacheable for r in self.regions)
        regions = [a for a in args if isinstance(a, Region) and a.private is None]
        self.pins = [(r.memory.in_flight, (r.lo, r.hi)) for r in regions]

    def reaches(self) -> bool:
        """Say whether the firmware finds instructions and buffers where it looks for them."""
        if self.in_vain or self._code is None:
            return False
        nbytes = instruction_bytes(self.image.program, self._code.bytes.data)
        unit = 1 if self.image.length_unit == "bytes" else 4
        return nbytes is not None and self._length == nbytes // unit


class Flight:
    """One run between ``start`` and its end. ``state`` is how it ends, not to be shown before it is done."""

    __slots__ = ("begin", "done", "end", "fault", "launch", "state")

    def __init__(self, launch: Launch, begin: float, end: float) -> None:
        self.launch = launch
        self.begin = begin
        self.end = end
        self.state = "COMPLETED"
        self.fault: Fault | None = None
        self.done = False

    @property
    def hangs(self) -> bool:
        """Whether the device never tells of its end."""
        return self.fault is not None and self.fault.kind is Kind.HANG


class Engine:
    """Time, memory and execution of one simulated NPU."""

    def __init__(
        self,
        profile: DeviceProfile,
        clock: Clock,
        timing: Timing,
        faults: FaultPlan,
        rng: random.Random,
        leak: float,
    ) -> None:
        self.profile = profile
        self.clock = clock
        self.timing = timing
        self.lost = False
        self.inflight: deque[Flight] = deque()
        self.races: list[str] = []
        self.kernel_errors: deque[tuple[str, Exception]] = deque(maxlen=16)
        self._faults = faults
        self._rng = rng
        self._leak = leak
        self._free_at = clock.now()
        self._next_address = 0x4000_0000
        self._last_output: dict[str, list[Bytes]] = {}
        self._lock = threading.RLock()

    # ------------------------------------------------------------------ memory

    def allocate(self, size: int, bank: int, cacheable: bool, fill: int | None) -> Memory:
        """Return new memory of ``size`` bytes, page-aligned, filled with ``fill`` or at random."""
        room = -(-size // PAGE) * PAGE
        address, self._next_address = self._next_address, self._next_address + room
        return Memory(self._block(size, fill), self._block(size, fill), address, bank, cacheable)

    def _block(self, size: int, fill: int | None) -> Bytes:
        raw = np.empty(size + PAGE, np.uint8)
        skip = -raw.ctypes.data % PAGE
        block = raw[skip : skip + size]
        if fill is None:
            block[:] = np.frombuffer(self._rng.randbytes(size), np.uint8)
        else:
            block.fill(fill)
        return block

    def touch(self, what: str, memory: Memory, lo: int, hi: int) -> None:
        """Note that the host changes bytes that a run in flight is using."""
        if memory.in_flight:
            self.settle()
            if memory.busy(lo, hi):
                where = f"bytes {lo} to {hi} of the buffer at 0x{memory.address:x}"
                self.races.append(f"{what}: {where}, while a run in flight uses them")

    # ----------------------------------------------------------------- running

    def submit(self, launch: Launch) -> Flight:
        """Queue one run and return it; nothing is computed yet."""
        with self._lock:
            self.clock.freeze()  # keeping these books takes no time on the device
            try:
                self.settle()
                return self._submit(launch)
            finally:
                self.clock.thaw()

    def _submit(self, launch: Launch) -> Flight:
        image, timing = launch.image, self.timing
        begin = max(self.clock.now(), self._free_at)
        once = timing.launch_us if image.launch_us is None else image.launch_us
        each = timing.us_per_item if image.us_per_item is None else image.us_per_item
        end = begin + (once + each * image.items) * 1e-6
        if begin - self._free_at > timing.idle_after_s:
            end += timing.idle_penalty_s
        flight = Flight(launch, begin, end)
        if self._faults.injections:
            flight.fault = self._faults.strike(Step.RUN, image.program)
        if not launch.reaches():
            flight.fault = _UNREACHED
        if flight.fault is not None:
            self._apply(flight, flight.fault)
        for spans, span in launch.pins:
            spans.append(span)
        self._seep(launch, to_device=True)
        self._free_at = end if flight.hangs else flight.end
        if not flight.hangs:  # a run that hangs is lost to the host only: the device goes on
            self.inflight.append(flight)
        if flight.fault is not None and flight.fault.kind is Kind.LOST:
            self.lose()
        return flight

    def _apply(self, flight: Flight, fault: Fault) -> None:
        kind = fault.kind
        if kind is Kind.HANG:
            flight.end = math.inf if fault.seconds is None else flight.begin + fault.seconds
            flight.state = "TIMEOUT"
        elif kind is Kind.WATCHDOG:
            flight.end = flight.begin + self.timing.watchdog_s
            flight.state = self.profile.watchdog_state
        elif kind is Kind.SLOW:
            flight.end += 0.136 if fault.seconds is None else fault.seconds
        else:
            flight.state = _END_STATE.get(kind, "COMPLETED")

    def settle(self) -> None:
        """Finish, in order, every run whose deadline has passed."""
        if not self.inflight:
            return
        with self._lock:
            now = self.clock.now()
            while self.inflight and (self.inflight[0].end <= now or self.lost):
                flight = self.inflight[0]
                if self.lost:
                    flight.state = "ABORT"
                elif flight.state == "COMPLETED":
                    self._execute(flight)
                self._finish(flight)
                self.inflight.popleft()  # last, so that other threads wait for it at the lock

    def poll(self, flight: Flight) -> bool:
        """Return whether ``flight`` has ended."""
        if not flight.done:
            self.settle()
            if flight.hangs and (self.lost or flight.end <= self.clock.now()):
                flight.state = "ABORT" if self.lost else "TIMEOUT"
                self._finish(flight)
        return flight.done

    def _finish(self, flight: Flight) -> None:
        with self._lock:
            if not flight.done:
                for spans, span in flight.launch.pins:
                    spans.remove(span)
                flight.done = True

    def _execute(self, flight: Flight) -> None:
        launch, fault = flight.launch, flight.fault
        if launch.untouched or (fault is not None and fault.kind is Kind.UNWRITTEN):
            return
        self.clock.freeze()
        try:
            views = [r.bytes for r in launch.regions]
            indices = launch.image.outputs if launch.image.outputs is not None else (len(views) - 1,)
            outputs = [views[i] for i in indices if i < len(views)]
            before = [o.copy() for o in outputs] if fault is not None and fault.kind is Kind.SLOT else []
            launch.program(*views)
            right = [o.copy() for o in outputs]
            if fault is not None:
                self._spoil(launch.image, fault, outputs, before)
            self._last_output[launch.image.program] = right
        except Exception as error:  # noqa: BLE001 - whatever the kernel raises is how this run ends
            flight.state = "ERROR"
            self.kernel_errors.append((launch.image.program, error))
        finally:
            self.clock.thaw()
        self._seep(launch, to_device=False)

    def _spoil(self, image: KernelImage, fault: Fault, outputs: list[Bytes], before: list[Bytes]) -> None:
        late = self._last_output.get(image.program, [])
        for i, out in enumerate(outputs):
            if fault.kind is Kind.ZEROS:
                out[:] = 0
            elif fault.kind is Kind.CONSTANT:
                out[:] = fault.value
            elif fault.kind is Kind.GARBAGE:
                out[:] = np.frombuffer(self._rng.randbytes(out.size), np.uint8)
            elif fault.kind is Kind.STALE and i < len(late) and late[i].size == out.size:
                out[:] = late[i]
            elif fault.kind is Kind.SLOT:
                row = -(-out.size // image.items)
                lo = fault.slot % image.items * row
                out[lo : lo + row] = before[i][lo : lo + row]

    def _seep(self, launch: Launch, *, to_device: bool) -> None:
        """Let bytes cross unsynced now and then, as when a cache writes a line back."""
        if not self._leak:
            return
        for region in launch.regions:
            if region.private is None and self._rng.random() < self._leak:
                memory, part = region.memory, slice(region.lo, region.hi)
                if to_device:
                    memory.device[part] = memory.host[part]
                else:
                    memory.host[part] = memory.device[part]

    # -------------------------------------------------------------------- loss

    def lose(self) -> None:
        """Take the device away: what is in flight is aborted, and every later call to the driver fails."""
        with self._lock:
            self.lost = True
            self.settle()

    def give_back(self) -> None:
        """Undo ``lose``."""
        self.lost = False
