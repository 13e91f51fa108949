"""``assay status``: what serves, how right and how fast it is."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from assay.cli import DONE, WRONG
from assay.cli.options import ConfigFile, Json
from assay.cli.output import console, emit, rate, table
from assay.cli.remedies import BROKEN, LACKS
from assay.cli.session import opened
from assay.contract.candidate import Candidate, Decision, State, Verdict
from assay.contract.capabilities import Accuracy
from assay.contract.naming import selects
from assay.contract.operation import Operation
from assay.negotiation.rank import VETO
from assay.runtime import Runtime


def command(config: ConfigFile = None, json: Json = False) -> int:
    """Show what serves, and how well.

    Its proven error and speed, device and batch size, and what there is to worry about.
    """
    with opened(config) as runtime:
        rows = [_row(runtime, name) for name in sorted(runtime.registry.operations)]
        warnings = [text for row in rows for text in row["warnings"]]
        if json:
            emit({"proof": runtime.config.proof.mode, "operations": rows})
        else:
            _show(rows, warnings)
        if not rows and not json:
            print("No plugin offers an operation: pip install assay-mel, for example.")
    return DONE if rows and all(row["chosen"] for row in rows) else WRONG


def _row(runtime: Runtime, name: str) -> dict[str, Any]:
    decision = runtime.explain(name)
    op = runtime.registry.operation(name)
    verdicts = Counter(candidate.verdict for candidate in decision.candidates)
    chosen = _chosen(decision)
    certificate = chosen.certificate if chosen else None
    worst = certificate.worst if certificate else None
    return {
        "operation": name,
        "chosen": decision.chosen,
        "state": chosen.state.value if chosen else None,
        "error": worst.max_abs if worst else None,
        "limit": worst.limit if worst else None,
        "probe": worst.probe if worst else None,
        "seconds": chosen.seconds if chosen else None,
        "work_per_second": _speed(op, chosen),
        "work_unit": op.work_unit,
        "device": chosen.plan.device.id if chosen and chosen.plan else None,
        "batch_size": chosen.plan.batch_size if chosen and chosen.plan and _items(chosen) else None,
        "accuracy": chosen.plan.accuracy.value if chosen and chosen.plan else None,
        "standby": verdicts[Verdict.STANDBY],
        "rejected": verdicts[Verdict.REJECTED],
        "warnings": _warnings(runtime, decision),
    }


def _chosen(decision: Decision) -> Candidate | None:
    return next((c for c in decision.candidates if c.verdict is Verdict.CHOSEN), None)


def _items(candidate: Candidate) -> bool:
    return candidate.implementation.capabilities.form == "items"


def _speed(op: Operation[Any, Any], candidate: Candidate | None) -> float | None:
    """Work per second on the standard workload, on which ``seconds`` was measured."""
    if candidate is None or not candidate.seconds:
        return None
    probe = op.standard(np.random.default_rng(0))
    return op.work(probe.inputs, probe.params) / candidate.seconds


def _warnings(runtime: Runtime, decision: Decision) -> list[str]:
    op, chosen = decision.op, _chosen(decision)
    if chosen is None:
        return [f"{op}: nothing can serve it; assay explain {op} says why"]
    found = []
    if chosen.certificate is None:
        found.append(f"{op}: {chosen.id} serves without proof, since proof.mode is 'off'")
    if chosen.state is State.QUARANTINED:
        found.append(f"{op}: {chosen.id} is in quarantine")
    if chosen.seconds:
        faster = [
            c
            for c in decision.candidates
            if c.verdict is Verdict.STANDBY and c.seconds and chosen.seconds >= VETO * c.seconds
        ]
        if faster:
            best = min(faster, key=lambda c: c.seconds or 0.0)
            times = chosen.seconds / (best.seconds or 1.0)
            found.append(
                f"{op}: the standby {best.id} was {times:.1f} times faster than {chosen.id}; "
                f"assay explain {op} says why it stands by"
            )
    if chosen.plan is not None and chosen.plan.accuracy is Accuracy.APPROXIMATE:
        where = runtime.loaded.sources.get(f"ops.{op}.accuracy") or runtime.loaded.sources.get(
            "accuracy", "the program"
        )
        found.append(f"{op}: {chosen.id} gives approximate numbers, which {where} admits")
    for pattern in runtime.config.op(op).prefer:
        lost = [c for c in decision.candidates if selects(pattern, c.id)]
        if lost and all(c.verdict is Verdict.REJECTED for c in lost):
            code = lost[0].reasons[-1].code
            mend = f"; assay explain {op} has the remedy" if code in BROKEN | LACKS else ""
            found.append(f"{op}: the preferred {pattern!r} was rejected ({code.value}){mend}")
    return found


def _show(rows: list[dict[str, Any]], warnings: list[str]) -> None:
    shown = table(
        *("Operation", "Chosen", "Proven error", "Speed", "Device", "Batch", "Standby, rejected"),
        right=("Proven error", "Speed", "Batch", "Standby, rejected"),
        whole=("Operation", "Chosen", "Device"),
    )
    for row in rows:
        name = row["operation"]
        shown.add_row(
            name,
            row["chosen"].removeprefix(f"{name}.") if row["chosen"] else "nothing",
            "none" if row["error"] is None else f"{row['error']:.1e} ({row['error'] / row['limit']:.0%})",
            "-" if row["work_per_second"] is None else rate(row["work_per_second"], row["work_unit"]),
            row["device"] or "-",
            "whole" if row["chosen"] and row["batch_size"] is None else str(row["batch_size"] or "-"),
            f"{row['standby']}, {row['rejected']}",
        )
    out = console()
    out.print(shown)
    if rows:
        out.print(
            "Proven error: on the probe nearest its limit, and how near. Speed: on the standard workload."
        )
    for text in warnings:
        out.print(f"Warning: {text}", style="yellow")
