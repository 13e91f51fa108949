"""Which remedies need following: most rejections are as they should be, a few are somebody's fault."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from assay.config import OpConfig
from assay.contract.candidate import Candidate, Decision, Verdict
from assay.contract.naming import selects
from assay.contract.reasons import FAULTS, Reason, ReasonCode

BROKEN = FAULTS | {ReasonCode.NO_CERTIFICATE}
"""Something is wrong or was not proved."""

LACKS = frozenset(
    {
        ReasonCode.DEVICE_ABSENT,
        ReasonCode.DEVICE_BUSY,
        ReasonCode.DEVICE_NOT_PERMITTED,
        ReasonCode.DRIVER_VERSION,
        ReasonCode.PACKAGE_MISSING,
        ReasonCode.PACKAGE_VERSION,
        ReasonCode.ARTIFACT_MISSING,
    }
)
"""This machine could have it."""


class Need(StrEnum):
    """Whether a candidate's remedy is worth following."""

    NOW = "now"
    OPTIONAL = "optional"
    NONE = "none"


def need(candidate: Candidate, decision: Decision, demand: OpConfig) -> Need:
    """Now: it is broken, or the configuration asks for it. Optional: it might outrank what serves."""
    if candidate.verdict is not Verdict.REJECTED or not candidate.reasons:
        return Need.NONE
    code = candidate.reasons[-1].code
    asked = [*demand.prefer, *([demand.require] if demand.require else [])]
    wanted = any(selects(pattern, candidate.id) for pattern in asked)
    if code in BROKEN or (wanted and code in LACKS):
        return Need.NOW
    priority = candidate.implementation.priority
    serving = next((c for c in decision.candidates if c.verdict is Verdict.CHOSEN), None)
    if code in LACKS and (serving is None or priority >= serving.implementation.priority):
        return Need.OPTIONAL
    return Need.NONE


def reason(candidate: Candidate) -> Reason | None:
    """The reason that decided."""
    return candidate.reasons[-1] if candidate.reasons else None


def summary(decision: Decision, demand: OpConfig) -> list[str]:
    """What a person has to know below the table."""
    by_need: dict[Need, list[str]] = {level: [] for level in Need}
    for candidate in decision.candidates:
        by_need[need(candidate, decision, demand)].append(candidate.id)
    lines = []
    if by_need[Need.NOW]:
        lines.append(f"To mend: {_names(by_need[Need.NOW])}.")
    if by_need[Need.OPTIONAL]:
        serving = decision.chosen or "nothing"
        lines.append(f"May outrank {serving} once its remedy is followed: {_names(by_need[Need.OPTIONAL])}.")
    if not lines:
        lines.append("No remedy needs following.")
    return lines


def _names(ids: Sequence[str]) -> str:
    return ", ".join(ids)
