"""One implementation in one runtime: the one record that explain, status, health and metrics show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from assay.contract.capabilities import Accuracy
from assay.contract.device import Plan
from assay.contract.implementation import Implementation
from assay.contract.reasons import Reason, ReasonCode


class Verdict(StrEnum):
    """What negotiation decided."""

    CHOSEN = "chosen"
    STANDBY = "standby"
    REJECTED = "rejected"


class State(StrEnum):
    """What the candidate does now."""

    SERVING = "serving"
    STANDBY = "standby"
    QUARANTINED = "quarantined"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Distribution:
    """Where a declaration came from."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}".strip()


@dataclass(frozen=True, slots=True)
class Measurement:
    """The measured error of one probe, and the limit that it was held against."""

    probe: str
    max_abs: float
    limit: float
    rms: float = 0.0
    rms_limit: float | None = None

    @property
    def share(self) -> float:
        """The error as a share of what is admitted; above 1 it is too large."""
        shares = [self.max_abs / self.limit if self.limit else float(self.max_abs > 0)]
        if self.rms_limit is not None:
            shares.append(self.rms / self.rms_limit)
        return max(shares)


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a proof measured. ``key`` names everything that could change the result."""

    id: str
    seed: int
    accuracy: Accuracy
    measurements: tuple[Measurement, ...]
    seconds: float | None
    made: str
    key: Mapping[str, str] = field(default_factory=dict)

    @property
    def worst(self) -> Measurement:
        """The probe that came closest to its limit."""
        return max(self.measurements, key=lambda measurement: measurement.share)

    @property
    def max_abs(self) -> float:
        """The largest absolute error over all probes."""
        return max(measurement.max_abs for measurement in self.measurements)


@dataclass(slots=True)
class Counters:
    """What one candidate did. Times are in seconds; ``work`` is in the operation's unit."""

    calls: int = 0
    items: int = 0
    batches: int = 0
    seconds: float = 0.0
    work: float = 0.0
    fallbacks: int = 0
    quarantines: int = 0
    queue_seconds: float = 0.0
    failures: Counter[str] = field(default_factory=Counter)
    batch_sizes: Counter[int] = field(default_factory=Counter)


@dataclass(slots=True, eq=False)
class Candidate:
    """One implementation in one runtime."""

    implementation: Implementation
    distribution: Distribution
    live: bool = False
    rejected: bool = False
    """Whether a test of the funnel has ended its way."""
    verdict: Verdict = Verdict.REJECTED
    state: State = State.REJECTED
    reasons: list[Reason] = field(default_factory=list)
    plan: Plan | None = None
    certificate: Certificate | None = None
    seconds: float | None = None
    counters: Counters = field(default_factory=Counters)

    @property
    def id(self) -> str:
        """``op.name``."""
        return self.implementation.id

    def reject(self, code: ReasonCode, message: str, remedy: str = "") -> None:
        """End this candidate's way through the funnel, with a reason."""
        self.reasons.append(Reason(code, message, remedy))
        self.rejected = True
        self.verdict, self.state = Verdict.REJECTED, State.REJECTED

    def dump(self) -> dict[str, Any]:
        """Plain data, fit for JSON."""
        plan = self.plan
        return {
            "id": self.id,
            "distribution": str(self.distribution),
            "priority": self.implementation.priority,
            "verdict": self.verdict.value,
            "state": self.state.value,
            "reasons": [asdict(reason) | {"code": reason.code.value} for reason in self.reasons],
            "plan": plan
            and {
                "device": plan.device.id,
                "device_name": plan.device.name,
                "batch_size": plan.batch_size,
                "accuracy": plan.accuracy.value,
                "threads": plan.threads,
                "buffer_flag": plan.buffer_flag and plan.buffer_flag.value,
                "refused": [[flag.value, why] for flag, why in plan.refused],
                "memory": plan.memory,
            },
            "certificate": self.certificate and dump_certificate(self.certificate),
            "seconds": self.seconds,
            "counters": asdict(self.counters),
        }


def dump_certificate(certificate: Certificate) -> dict[str, Any]:
    """A certificate as plain data."""
    return asdict(certificate) | {"accuracy": certificate.accuracy.value, "key": dict(certificate.key)}


def load_certificate(data: Mapping[str, Any]) -> Certificate:
    """A certificate from plain data.

    Raises:
        KeyError, TypeError, ValueError: The data is not a certificate.
    """
    return Certificate(
        id=str(data["id"]),
        seed=int(data["seed"]),
        accuracy=Accuracy(data["accuracy"]),
        measurements=tuple(Measurement(**one) for one in data["measurements"]),
        seconds=None if data["seconds"] is None else float(data["seconds"]),
        made=str(data["made"]),
        key={str(name): str(value) for name, value in data["key"].items()},
    )


@dataclass(slots=True)
class Decision:
    """For one operation: its candidates in rank order, the rejected ones last."""

    op: str
    candidates: Sequence[Candidate]

    @property
    def chosen(self) -> str | None:
        """The id of the candidate that serves, or None."""
        return next((c.id for c in self.candidates if c.verdict is Verdict.CHOSEN), None)

    def __getitem__(self, id: str) -> Candidate:
        """A candidate by its id or its name.

        Raises:
            KeyError: No such candidate.
        """
        for candidate in self.candidates:
            if id in (candidate.id, candidate.implementation.name):
                return candidate
        raise KeyError(f"{id}: {self.op} has {', '.join(c.id for c in self.candidates) or 'no candidates'}")

    def model_dump(self, mode: str = "python") -> dict[str, Any]:
        """Plain data, fit for JSON in either mode."""
        return {"op": self.op, "chosen": self.chosen, "candidates": [c.dump() for c in self.candidates]}

    def __str__(self) -> str:
        return table(self)


def table(decision: Decision) -> str:
    """The decision as lines of text: one per candidate, its reasons and remedies below it."""
    head = f"{decision.op}: {decision.chosen or 'nothing can serve'}"
    width = max((len(c.id) for c in decision.candidates), default=0)
    lines = [head]
    for c in decision.candidates:
        mark = c.state.value if c.state is State.QUARANTINED else c.verdict.value
        facts = []
        if c.certificate is not None:
            facts.append(f"error {c.certificate.worst.max_abs:.1e}")
        if c.seconds is not None:
            facts.append(f"{c.seconds * 1e3:.3g} ms")
        if c.plan is not None and c.implementation.capabilities.form == "items":
            facts.append(f"{c.plan.batch_size} items per call")
        if c.plan is not None and c.plan.buffer_flag is not None:
            facts.append(f"{c.plan.buffer_flag.value} buffers")
        lines.append(f"  {c.id:<{width}}  {mark:<11}  {', '.join(facts)}".rstrip())
        for flag, why in c.plan.refused if c.plan is not None else ():
            lines.append(f"  {'':<{width}}    {flag.value} buffers were refused: {why}")
        for reason in c.reasons:
            lines.append(f"  {'':<{width}}    {reason.message}")
            if reason.remedy:
                lines.append(f"  {'':<{width}}    -> {reason.remedy}")
    return "\n".join(lines)
