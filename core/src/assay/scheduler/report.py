"""What ran, how often and how fast: ``health``, ``metrics`` and ``summary`` as views of the counters."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from assay.contract.candidate import Candidate, State
from assay.contract.reasons import ReasonCode
from assay.scheduler.dispatcher import Dispatcher

Data = dict[str, Any]


def health(dispatchers: Mapping[str, Dispatcher]) -> Data:
    """Plain data: "ok", "degraded" (somebody is in quarantine) or "failed" (an operation has nobody)."""
    ops = {name: _health(dispatcher) for name, dispatcher in dispatchers.items()}
    found = {op["status"] for op in ops.values()}
    return {"status": next((level for level in ("failed", "degraded") if level in found), "ok"), "ops": ops}


def _health(dispatcher: Dispatcher) -> Data:
    servers = dispatcher.roster.servers
    active = dispatcher.roster.active
    now = time.monotonic()
    quarantined = {
        server.candidate.id: {
            "reason": "; ".join(
                r.message for r in server.candidate.reasons if r.code is ReasonCode.QUARANTINED
            ),
            "probed_in_s": round(max(0.0, server.until - now), 3),
        }
        for server in servers
        if server.quarantined
    }
    return {
        "status": "degraded" if quarantined else "ok" if active else "failed",
        "serving": active[0].candidate.id if active else None,
        "standby": [server.candidate.id for server in active[1:]],
        "quarantined": quarantined,
        "hung": {server.candidate.id: server.hung for server in servers if server.hung},
        "waiting": dispatcher.queue.waiting,
    }


def metrics(dispatchers: Mapping[str, Dispatcher]) -> Data:
    """Plain data, per operation and implementation; times in seconds, work in the operation's unit.

    ``share`` is the part of all kernels' time; ``realtime``, where work is measured in seconds (of audio),
    is how many times faster than real time it went.
    """
    total = sum(c.counters.seconds for d in dispatchers.values() for c in d.roster.slate.decision.candidates)
    return {"ops": {name: _metrics(dispatcher, total) for name, dispatcher in dispatchers.items()}}


def _metrics(dispatcher: Dispatcher, total: float) -> Data:
    op = dispatcher.op
    candidates = dispatcher.roster.slate.decision.candidates
    timed = op.work_unit.endswith("seconds")
    rows = {
        candidate.id: _candidate(candidate, timed, total)
        for candidate in candidates
        if candidate.state is not State.REJECTED or candidate.counters.calls
    }
    counters = [candidate.counters for candidate in candidates]
    seconds, work = sum(c.seconds for c in counters), sum(c.work for c in counters)
    return {
        "work_unit": op.work_unit,
        "calls": sum(c.calls for c in counters),
        "seconds": seconds,
        "work": work,
        "realtime": work / seconds if timed and seconds else None,
        "share": seconds / total if total else 0.0,
        "queue": {
            "waiting": dispatcher.queue.waiting,
            "refused": dispatcher.queue.refused,
            "seconds": sum(c.queue_seconds for c in counters),
        },
        "implementations": rows,
    }


def _candidate(candidate: Candidate, timed: bool, total: float) -> Data:
    c = candidate.counters
    return {
        "state": candidate.state.value,
        "calls": c.calls,
        "items": c.items,
        "batches": c.batches,
        "batch_sizes": {str(size): count for size, count in sorted(c.batch_sizes.items())},
        "seconds": c.seconds,
        "work": c.work,
        "realtime": c.work / c.seconds if timed and c.seconds else None,
        "share": c.seconds / total if total else 0.0,
        "failures": dict(c.failures),
        "fallbacks": c.fallbacks,
        "quarantines": c.quarantines,
        "queue_seconds": c.queue_seconds,
    }


def summary(dispatchers: Mapping[str, Dispatcher]) -> str:
    """The same for people: one line per implementation that has done something."""
    lines = []
    for name, op in metrics(dispatchers)["ops"].items():
        work = f"{op['work']:.6g} {op['work_unit']} in {op['seconds']:.3g} s"
        refused = op["queue"]["refused"]
        lines.append(
            f"{name}: {op['calls']} calls, {work}{_speed(op)}{f', {refused} refused' if refused else ''}"
        )
        for id, row in op["implementations"].items():
            if not row["calls"] and not row["failures"]:
                continue
            facts = [f"{row['calls']} calls", f"{row['share']:.1%} of the time"]
            if row["batches"]:
                facts.append(f"{row['items'] / row['batches']:.1f} items a batch")
            if row["queue_seconds"]:
                facts.append(f"{row['queue_seconds']:.3g} s in the queue")
            facts += [f"{count} {kind}" for kind, count in row["failures"].items()]
            facts += [f"{row[name]} {name}" for name in ("fallbacks", "quarantines") if row[name]]
            if row["state"] == State.QUARANTINED:
                facts.append("in quarantine")
            lines.append(f"  {id}: {', '.join(facts)}{_speed(row)}")
    return "\n".join(lines)


def _speed(row: Mapping[str, Any]) -> str:
    return f", {row['realtime']:.4g} times real time" if row["realtime"] else ""
