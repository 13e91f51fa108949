"""Faults on demand: what goes wrong, at which step, how often."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum


class Step(StrEnum):
    """Where a fault strikes: a call of the API, or the run on the device that follows ``start``."""

    OPEN = "open"
    REGISTER = "register"
    CONTEXT = "context"
    KERNEL = "kernel"
    ALLOCATE = "allocate"
    MAP = "map"
    WRITE = "write"
    SYNC = "sync"
    START = "start"
    WAIT = "wait"
    READ = "read"
    RUN = "run"


class Kind(StrEnum):
    """What goes wrong. A call can FAIL or find the device LOST; all others are outcomes of a run."""

    FAIL = "fail"
    LOST = "lost"

    HANG = "hang"
    WATCHDOG = "watchdog"
    ERROR = "error"
    ABORT = "abort"
    NO_RESPONSE = "no-response"
    UNWRITTEN = "unwritten"
    ZEROS = "zeros"
    CONSTANT = "constant"
    GARBAGE = "garbage"
    STALE = "stale"
    SLOT = "slot"
    SLOW = "slow"


CALL_KINDS = frozenset({Kind.FAIL, Kind.LOST})
RUN_KINDS = frozenset(Kind) - {Kind.FAIL}


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault to inject.

    Attributes:
        step: where.
        kind: what.

            - ``FAIL``: the call raises.
            - ``LOST``: the device is gone for good.
            - ``HANG``: the run never ends, or as TIMEOUT after ``seconds``; the device goes on with others.
            - ``WATCHDOG``: the run holds the device until the watchdog stops it.
            - ``ERROR``, ``ABORT``, ``NO_RESPONSE``: the run ends in that state, with nothing written.

            These end as COMPLETED:

            - ``UNWRITTEN``: the output is as it was.
            - ``ZEROS``; ``CONSTANT``: every byte is ``value`` (255 makes a NaN of floats); ``GARBAGE``.
            - ``STALE``: the output of the run before.
            - ``SLOT``: item ``slot`` of the batch is as it was.
            - ``SLOW``: right, but ``seconds`` late, as the first run after a rest is.
        count: how many times it strikes; None for every time.
        after: how many times that step passes unharmed first.
        probability: chance to strike each time.
        program: strike only runs of this program; None for all.
        message: what ``FAIL`` says; by default what the real driver says at that step.
        value: byte for ``CONSTANT``.
        slot: item for ``SLOT``.
        seconds: duration for ``HANG`` (None: for ever) and ``SLOW`` (None: 0.136).

    Raises:
        ValueError: that kind can't strike at that step.
    """

    step: Step
    kind: Kind
    count: int | None = 1
    after: int = 0
    probability: float = 1.0
    program: str | None = None
    message: str | None = None
    value: int = 1
    slot: int = 1
    seconds: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "step", Step(self.step))
        object.__setattr__(self, "kind", Kind(self.kind))
        allowed = RUN_KINDS if self.step is Step.RUN else CALL_KINDS
        if self.kind not in allowed:
            kinds = ", ".join(sorted(allowed))
            raise ValueError(
                f"a fault of kind '{self.kind}' can't strike at step '{self.step}': it takes {kinds}"
            )


def every_fault() -> Iterator[Fault]:
    """Yield one fault for each step and each kind that can strike there."""
    for step in Step:
        for kind in Kind:
            if kind in (RUN_KINDS if step is Step.RUN else CALL_KINDS):
                yield Fault(step, kind)


@dataclass(slots=True)
class Injection:
    """A fault that was injected: how often its step was passed, and how often it struck."""

    fault: Fault
    seen: int = 0
    hits: int = 0

    def strikes(self, program: str | None, rng: random.Random) -> bool:
        """Count one passing of the step and say whether the fault strikes it."""
        fault = self.fault
        if fault.program is not None and fault.program != program:
            return False
        if fault.count is not None and self.hits >= fault.count:
            return False
        self.seen += 1
        if self.seen <= fault.after or (fault.probability < 1.0 and rng.random() >= fault.probability):
            return False
        self.hits += 1
        return True


@dataclass(slots=True)
class FaultPlan:
    """All injections of a simulator."""

    rng: random.Random
    injections: list[Injection] = field(default_factory=list)

    def add(self, fault: Fault) -> Injection:
        """Arm ``fault``."""
        injection = Injection(fault)
        self.injections.append(injection)
        return injection

    def clear(self) -> None:
        """Disarm everything."""
        self.injections.clear()

    def strike(self, step: Step, program: str | None = None) -> Fault | None:
        """Return the first fault that strikes this passing of ``step``, if any."""
        for injection in self.injections:
            if injection.fault.step is step and injection.strikes(program, self.rng):
                return injection.fault
        return None
