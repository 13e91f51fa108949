"""``assay explain OP``: every candidate with its verdict, the reasons and the remedies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.cli import DONE, WRONG
from assay.cli.options import ConfigFile, Json, Op
from assay.cli.output import console, duration, emit, table
from assay.cli.remedies import Need, need, summary
from assay.cli.session import opened
from assay.config import OpConfig
from assay.contract.candidate import Candidate, Decision, State, Verdict

if TYPE_CHECKING:
    from rich.text import Text

STYLES = {Verdict.CHOSEN: "bold green", Verdict.STANDBY: "", Verdict.REJECTED: "red"}
REMEDY_STYLES = {Need.NOW: "bold yellow", Need.OPTIONAL: "yellow", Need.NONE: "dim"}


def command(op: Op, config: ConfigFile = None, json: Json = False) -> int:
    """Show every candidate, why it is where it is, and what to do."""
    with opened(config, ops=(op,)) as runtime:
        decision, demand = runtime.explain(op), runtime.config.op(op)
        if json:
            data = decision.model_dump(mode="json")
            for one, candidate in zip(data["candidates"], decision.candidates, strict=True):
                one["remedy_needed"] = need(candidate, decision, demand).value
            emit(data)
        else:
            _show(decision, demand)
    return DONE if decision.chosen else WRONG


def _show(decision: Decision, demand: OpConfig) -> None:
    shown = table(
        "Implementation", "Verdict", "Proof", "Why, and what to do", whole=("Implementation", "Verdict")
    )
    for index, candidate in enumerate(decision.candidates):
        if index:
            shown.add_row()
        style = STYLES[candidate.verdict]
        shown.add_row(
            _name(candidate, style),
            _verdict(candidate, style),
            _proof(candidate),
            _why(candidate, need(candidate, decision, demand)),
        )
    out = console()
    out.print(f"{decision.op}: {decision.chosen or 'nothing can serve it'}")
    out.print(shown)
    for line in summary(decision, demand):
        out.print(line)


def _name(candidate: Candidate, style: str) -> Text:
    from rich.text import Text

    return Text(candidate.id, style).append(f"\n{candidate.distribution}", "dim")


def _verdict(candidate: Candidate, style: str) -> Text:
    from rich.text import Text

    held = candidate.state is State.QUARANTINED
    return Text("quarantined" if held else candidate.verdict.value, "yellow" if held else style)


def _proof(candidate: Candidate) -> str:
    lines = []
    if candidate.certificate is not None:
        lines.append(f"error {candidate.certificate.worst.max_abs:.1e}")
    if candidate.seconds is not None:
        lines.append(duration(candidate.seconds))
    return "\n".join(lines)


def _why(candidate: Candidate, level: Need) -> Text:
    from rich.text import Text

    text = Text()
    for reason in candidate.reasons:
        text.append(("\n" if text else "") + reason.message)
        if reason.remedy:
            text.append(f"\n-> {reason.remedy}", REMEDY_STYLES[level])
    if candidate.plan is not None and candidate.plan.buffer_flag is not None:
        for flag, why in candidate.plan.refused:
            text.append(f"\n{flag.value} buffers were refused: {why}", "dim")
        items = f"{candidate.plan.batch_size} item{'s' if candidate.plan.batch_size > 1 else ''}"
        text.append(f"\n{candidate.plan.buffer_flag.value} buffers, {items} a call", "dim")
    return text
