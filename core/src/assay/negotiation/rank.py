"""The order of proven candidates: preference, then priority, with a veto by measurement."""

from __future__ import annotations

from collections.abc import Sequence

from assay.config import OpConfig, Select
from assay.contract.candidate import Candidate, State, Verdict
from assay.contract.naming import selects
from assay.contract.reasons import Reason, ReasonCode

VETO = 1.5
"""A candidate this many times slower than one ranked below it steps behind that one."""

MARGIN = 1.05
"""Measured times within this factor count as equal, so that two starts decide alike."""

Key = tuple[int, int, str, str]


def rank(proven: Sequence[Candidate], demand: OpConfig, select: Select) -> list[Candidate]:
    """The total order; verdicts are set, and vetoes noted."""
    order = sorted(proven, key=lambda candidate: static_key(candidate, demand))
    if select == "auto":
        order = _veto(order, demand)
    elif select == "measured":
        order = _measured(order, demand)
    for index, candidate in enumerate(order):
        candidate.verdict = Verdict.STANDBY if index else Verdict.CHOSEN
        candidate.state = State.STANDBY if index else State.SERVING
    return order


def say_why(order: Sequence[Candidate], demand: OpConfig, select: Select) -> None:
    """Note for each of those that may serve why it is where it is."""
    for candidate in order:
        candidate.reasons.append(_why(candidate, order, demand, select))


def static_key(candidate: Candidate, demand: OpConfig) -> Key:
    """Preference, then priority, then distribution, then name: no two are equal."""
    implementation = candidate.implementation
    return (
        _preference(candidate, demand),
        -implementation.priority,
        candidate.distribution.name,
        implementation.name,
    )


def _preference(candidate: Candidate, demand: OpConfig) -> int:
    for index, pattern in enumerate(demand.prefer):
        if selects(pattern, candidate.id):
            return index
    return len(demand.prefer)


def _preferred(candidate: Candidate, demand: OpConfig) -> bool:
    return _preference(candidate, demand) < len(demand.prefer)


def _veto(order: Sequence[Candidate], demand: OpConfig) -> list[Candidate]:
    result: list[Candidate] = []
    for candidate in reversed(order):
        behind = -1
        if candidate.seconds is not None and not _preferred(candidate, demand):
            for index, other in enumerate(result):
                if other.seconds is not None and candidate.seconds >= VETO * other.seconds:
                    behind = index
        if behind >= 0:
            first = min(
                (other for other in result[: behind + 1] if other.seconds is not None),
                key=lambda other: other.seconds or 0.0,
            )
            times = (candidate.seconds or 0.0) / (first.seconds or 1.0)
            candidate.reasons.append(
                Reason(
                    ReasonCode.VETOED,
                    f"{times:.1f} times slower than {first.id}, so it steps behind it",
                    f'prefer = ["{candidate.implementation.name}"] overrules the measurement',
                )
            )
        result.insert(behind + 1, candidate)
    return result


def _measured(order: Sequence[Candidate], demand: OpConfig) -> list[Candidate]:
    left, result = list(order), []
    while left:
        preferred = [c for c in left if _preferred(c, demand)]
        pool = preferred[:1] or [c for c in left if c.seconds is not None] or left
        if preferred or pool is left:
            chosen = pool[0]
        else:
            fastest = min(c.seconds for c in pool if c.seconds is not None)
            chosen = next(c for c in pool if c.seconds is not None and c.seconds <= MARGIN * fastest)
        left.remove(chosen)
        result.append(chosen)
    return result


def _why(candidate: Candidate, order: Sequence[Candidate], demand: OpConfig, select: Select) -> Reason:
    first = order[0]
    if candidate is not first:
        return Reason(
            ReasonCode.OUTRANKED, f"proven; on standby behind {first.id}" + _because(candidate, first, demand)
        )
    if demand.require is not None:
        return Reason(ReasonCode.REQUIRED, f"required by {demand.require!r}")
    if _preferred(candidate, demand):
        return Reason(ReasonCode.PREFERRED, f"preferred by {demand.prefer[_preference(candidate, demand)]!r}")
    others = len(order) - 1
    how = (
        "the fastest"
        if select == "measured"
        else f"the best rank (priority {candidate.implementation.priority})"
    )
    return Reason(ReasonCode.BEST, f"{how} of {others + 1} proven" if others else "the only one proven")


def _because(candidate: Candidate, first: Candidate, demand: OpConfig) -> str:
    if _preferred(first, demand):
        return ", which is preferred"
    if any(reason.code is ReasonCode.VETOED for reason in candidate.reasons):
        return ""
    mine, theirs = candidate.implementation.priority, first.implementation.priority
    return f" (priority {mine} against {theirs})" if mine < theirs else ""
