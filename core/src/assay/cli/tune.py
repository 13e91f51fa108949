"""``assay tune [OP]``: measure the proven candidates on your own shapes, and keep the figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

import typer

from assay.cli import DONE, Misused
from assay.cli.inputs import parse
from assay.cli.options import ConfigFile, Json, Params
from assay.cli.output import console, duration, emit, table
from assay.cli.session import opened
from assay.contract.candidate import Candidate, Verdict
from assay.contract.errors import InvalidInput
from assay.negotiation.ledger import Race
from assay.negotiation.rank import rank
from assay.negotiation.speed import Shapes
from assay.runtime import Runtime

Which = Annotated[str | None, typer.Argument(metavar="[OP]", help="An operation; every one if left out.")]
Shape = Annotated[
    list[str] | None,
    typer.Option(
        "--shape",
        metavar="NxM[,...]",
        help="The shape of a request's inputs: one for all, or one each, with commas. May be repeated.",
    ),
]
Seconds = Annotated[
    float, typer.Option("--seconds", min=0.1, help="How long to measure, at most, per operation.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Keep nothing.")]


def command(
    op: Which = None,
    shape: Shape = None,
    param: Params = None,
    seconds: Seconds = 3.0,
    dry_run: DryRun = False,
    config: ConfigFile = None,
    json: Json = False,
) -> int:
    """Measure the proven candidates in turns, and keep the figures for the next start.

    Without --shape it is the operation's standard workload, which also undoes an earlier choice of shapes.
    What the figures decide depends on ``select``: "auto" passes over who is 1.5 times slower,
    "measured" takes the fastest, "priority" ignores them.
    """
    if op is None and (shape or param):
        raise Misused("--shape and --param belong to one operation: assay tune OP --shape ...")
    shapes = [_parse(text) for text in shape or ()]
    reports = []
    with opened(config, ops=None if op is None else (op,)) as runtime:
        for name in [op] if op is not None else sorted(runtime.registry.operations):
            params = parse(runtime.registry.operation(name), param)
            reports.append(_tune(runtime, name, shapes, params, seconds, keep=not dry_run))
    if json:
        emit({"operations": reports})
    else:
        for report in reports:
            _show(report)
    return DONE


def _parse(text: str) -> list[tuple[int, ...]]:
    try:
        return [tuple(int(n) for n in one.lower().split("x") if n) for one in text.split(",")]
    except ValueError:
        raise Misused(
            f"--shape {text!r}: write whole numbers with x between them, such as 1500x1536"
        ) from None


def _tune(
    runtime: Runtime,
    name: str,
    shapes: Sequence[Shapes],
    params: dict[str, Any],
    seconds: float,
    *,
    keep: bool,
) -> dict[str, Any]:
    """Race an operation's candidates; a report as plain data."""
    op, decision = runtime.registry.operation(name), runtime.explain(name)
    proven = [c for c in decision.candidates if c.verdict is not Verdict.REJECTED]
    racers = [c for c in proven if not c.live and c.certificate is not None]
    negotiation = runtime.negotiation
    try:
        figures = negotiation.prover.race(op, racers, shapes, params, seconds) if racers else {}
    except InvalidInput as error:
        raise Misused(str(error)) from error
    finally:
        negotiation.prover.close()
    if keep and racers:
        runtime.ledger.write_race(Race(name, figures, shapes, params), racers)
    now = _chosen(runtime, name, proven, {})
    then = _chosen(runtime, name, proven, figures)
    return {
        "op": name,
        "shapes": shapes,
        "params": params,
        "seconds": {c.id: figures.get(c.id) for c in racers},
        "chosen": now,
        "would_choose": then,
        "times_faster": figures[now] / figures[then] if now in figures and then in figures else None,
        "select": runtime.config.select,
        "kept": keep,
    }


def _chosen(
    runtime: Runtime, name: str, proven: Sequence[Candidate], figures: dict[str, float]
) -> str | None:
    """Who serves by these figures; without any, by those that were there."""
    asked = [replace(c, reasons=[], seconds=figures.get(c.id) if figures else c.seconds) for c in proven]
    order = rank(asked, runtime.config.op(name), runtime.config.select)
    return order[0].id if order else None


def _show(report: dict[str, Any]) -> None:
    out, seconds = console(), report["seconds"]
    of = ", ".join("x".join(map(str, one)) for request in report["shapes"] for one in request)
    shown = table(f"{report['op']}, {of or 'standard workload'}", "Time", "", right=("Time",))
    least = min((figure for figure in seconds.values() if figure is not None), default=None)
    for id, figure in sorted(seconds.items(), key=lambda pair: (pair[1] is None, pair[1] or 0.0)):
        if figure is None or least is None:
            shown.add_row(id, "-", "does not take it")
        else:
            shown.add_row(
                id, duration(figure), "" if figure == least else f"{figure / least:.2f} times slower"
            )
    out.print(shown)
    now, then, times = report["chosen"], report["would_choose"], report["times_faster"]
    if now == then:
        out.print(f"{report['op']}: no change, {now or 'nothing'} serves (select = {report['select']!r}).")
    else:
        faster = f", {times:.2f} times faster" if times is not None else ""
        when = "from the next start on" if report["kept"] else "if this were kept"
        out.print(f"{report['op']}: {then} instead of {now}{faster}, {when} (select = {report['select']!r}).")
