"""``pyxrt.run``."""

import math
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from . import enums
from .bo import Bo
from .bound import NEW_API, UNSIGNED, Bound, int32, integer, out_of_range, refuse
from .engine import Argument, Flight, Launch, Region
from .faults import Step
from .handles import NO_BANK, Kernel

if TYPE_CHECKING:
    from .lease import Lease

_STATES = {s.name.removeprefix("ERT_CMD_STATE_"): s for s in enums.ert_cmd_state}
_TIMEOUT = _STATES["TIMEOUT"]
_COMPLETED = _STATES["COMPLETED"]


class Run(Bound):
    """``pyxrt.run``: the arguments of a kernel, and one execution of it at a time."""

    __slots__ = ("_args", "_flight", "_kernel", "_launch", "_launched", "_lease")

    def __init__(self, *args: Kernel) -> None:
        self._flight: Flight | None = None
        self._kernel: Kernel | None = None
        self._launched = False  # and its end not yet seen by the host
        self._args: list[Argument] = []
        self._launch: Launch | None = None
        self._lease: Lease | None = None
        if args:
            if len(args) != 1 or not isinstance(args[0], Kernel):
                refuse("__init__", args, "pyxrt.run()", "pyxrt.run(arg0: pyxrt.kernel)")
            self._kernel = args[0]
            self._args = [None] * args[0].image.args
            self._lease = self._sim.lease("runs")

    def __del__(self) -> None:
        flight, sim = getattr(self, "_flight", None), self._sim
        if flight is None or flight.done or sim.version < NEW_API:
            return
        if flight.end > sim.clock.now() and not sim.engine.lost:
            sim.abort("a run was destroyed before it had finished")

    def set_arg(self, index: int, value: Any, /) -> None:
        """Set one argument to a buffer or a 32-bit integer."""
        kernel, at = self._made(), int32(index)
        number = None if isinstance(value, Bo) else int32(value)
        if at is None or (number is None and not isinstance(value, Bo)):
            refuse(
                "set_arg",
                (self, index, value),
                "(self: pyxrt.run, arg0: int, arg1: pyxrt.bo) -> None",
                "(self: pyxrt.run, arg0: int, arg1: int) -> None",
            )
        count = len(self._args)
        if 0 <= at < count:
            self._args[at] = self._connect(kernel, at, value) if number is None else number
            self._launch = None
        elif number is None:
            self._sim.segfault(f"set_arg({at}, bo) on kernel '{kernel.image.name}' of {count} arguments")
        else:
            out_of_range(at, count)

    def _connect(self, kernel: Kernel, index: int, bo: Bo) -> Region:
        region, wanted = bo.region, kernel.bank(index)
        bank = region.memory.bank
        if NO_BANK in (bank, wanted):
            out_of_range(NO_BANK, 2)
        if bank == wanted:
            return region
        print(
            f"[XRT] WARNING: argument {index} of kernel {kernel.image.name} lies in bank {bank} but is "
            f"connected to bank {wanted}: the kernel gets a copy of its own",
            file=sys.stderr,
        )
        return Region(region.memory, region.lo, region.hi, private=region.bytes.copy())

    def start(self, /) -> None:
        """Launch; a run may be started again once its end has been seen by ``wait`` or ``state``."""
        sim, kernel = self._sim, self._made()
        if sim.troubled:
            sim.check(Step.START)
        if self._launched:
            raise RuntimeError("bad command state, can't launch")
        if self._launch is None:
            self._launch = Launch(kernel.image, kernel.program, self._args, kernel.truncated)
        self._flight = sim.engine.submit(self._launch)
        self._launched = True

    def wait(self, *timeout_ms: int) -> enums.ert_cmd_state:
        """Return the state at the end, or TIMEOUT once ``timeout_ms`` are over; none or 0 waits for ever."""
        ms = 0 if not timeout_ms else integer(timeout_ms[0], 0, UNSIGNED)
        if ms is None or len(timeout_ms) > 1:
            refuse(
                "wait",
                (self, *timeout_ms),
                "(self: pyxrt.run) -> pyxrt.ert_cmd_state",
                "(self: pyxrt.run, arg0: int) -> pyxrt.ert_cmd_state",
            )
        self._made()
        sim, flight = self._sim, self._flight
        if sim.troubled:
            sim.check(Step.WAIT)
        engine, clock = sim.engine, sim.clock
        limit = clock.now() + ms * 1e-3 if ms else math.inf
        while flight is None or not engine.poll(flight):
            end = math.inf if flight is None else flight.end
            if end == limit == math.inf:
                sim.hang("wait() without a limit on a run that never ends, or was never started")
            clock.wait_until(min(end, limit))
            if limit < end and not (flight and engine.poll(flight)):
                return _TIMEOUT
        self._launched = False
        return _STATES[flight.state]

    def wait2(self, /) -> None:
        """Wait without a limit; raise unless the run completed."""
        state = self.wait()
        if state is not _COMPLETED:
            raise RuntimeError(f"Command failed to complete successfully ({state.name})")

    def state(self, /) -> enums.ert_cmd_state:
        """Return the state now: while it runs QUEUED or SUBMITTED, one below COMPLETED and one above."""
        self._made()
        engine, flight = self._sim.engine, self._flight
        if flight is None:
            return _STATES["NEW"]
        if engine.poll(flight):
            self._launched = False
            return _STATES[flight.state]
        return _STATES["QUEUED" if self._sim.clock.now() < flight.begin else "SUBMITTED"]

    def add_callback(self, *args: object) -> NoReturn:
        """Refuse: pybind11 can't convert a Python function to the type that this takes."""
        signature = "(self: pyxrt.run, arg0: pyxrt.ert_cmd_state, arg1: std::function) -> None"
        refuse("add_callback", (self, *args), signature)

    def _made(self) -> Kernel:
        kernel = self._kernel
        if kernel is None:
            self._sim.segfault("run() made empty and used")
        return kernel
