"""``assay compare A B FILE``: two implementations on the user's own input."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from assay.cli import DONE, WRONG, Misused
from assay.cli.files import check_suffix, whole
from assay.cli.inputs import call, check_name, check_there, external, parse, read
from assay.cli.options import ConfigFile, InputFile, Json, Params
from assay.cli.output import console, duration, emit, spinner, table
from assay.cli.session import opened
from assay.contract.operation import Arrays, Operation, Probe
from assay.negotiation.compare import compare
from assay.runtime import Runtime

BUDGET_S = 1.0
"""How long the two are timed, in turns, after one call each."""

First = Annotated[str, typer.Argument(metavar="A", help="An implementation's id: mel.numpy, for example.")]
Second = Annotated[
    str, typer.Argument(metavar="B", help="Another of the same operation; its name is enough.")
]
Picture = Annotated[Path | None, typer.Option("--plot", metavar="OUT.png", help="Draw the difference A - B.")]


def command(
    a: First,
    b: Second,
    file: InputFile,
    plot: Picture = None,
    param: Params = None,
    config: ConfigFile = None,
    json: Json = False,
) -> int:
    """Run two implementations on one input.

    Shows the error of each against the float64 definition, their difference, and their times.
    """
    check_suffix(plot, "--plot", ".png", ".pdf", ".svg")
    name = _operation(a, b)
    ids = tuple(id if "." in id else f"{name}.{id}" for id in (a, b))
    check_there(file)
    with opened(config, ops=(name,)) as runtime:
        operation = runtime.registry.operation(name)
        if plot is not None and operation.plot is None:
            raise Misused(f"{name} has no picture: leave --plot out")
        params = {**operation.defaults, **parse(operation, param)}
        for id in ids:
            check_name(runtime.explain(name), id)
        inputs = read(operation, file)
        with spinner() as say:
            say(f"running {ids[0]} and {ids[1]}")
            rows, results = _run(runtime, operation, ids, inputs, params)
            say("computing the float64 definition")
            _hold_against_definition(runtime, operation, rows, results, inputs, params)
        difference = results[0].astype(np.float64) - results[1].astype(np.float64)
        if plot is not None:
            title = f"{rows[0]['id']} - {rows[1]['id']}, {file.name}"
            with whole(plot) as part:
                external(operation.plot)(difference, part, title=title)
    report = {
        "file": str(file),
        "implementations": rows,
        "difference": float(np.abs(difference).max(initial=0.0)),
        "difference_rms": float(np.sqrt(np.mean(np.square(difference)))) if difference.size else 0.0,
        "plot": plot and str(plot),
    }
    if json:
        emit(report)
    else:
        _show(report)
    return WRONG if any(row["wrong"] for row in rows) else DONE


def _operation(a: str, b: str) -> str:
    """The operation that one or both ids name.

    Raises:
        Misused: Neither names one, or they name two.
    """
    named = {id.split(".", 1)[0] for id in (a, b) if "." in id}
    if len(named) != 1:
        what = "two operations" if named else "no operation"
        raise Misused(f"{a} and {b} name {what}: write A as OP.NAME, and B as a name of the same operation")
    return named.pop()


def _run(
    runtime: Runtime, op: Operation[Any, Any], ids: tuple[str, ...], inputs: Arrays, params: dict[str, Any]
) -> tuple[list[dict[str, Any]], list[NDArray[Any]]]:
    """Results of both, and their median times; they take turns, so that both see the same machine."""
    arrays, keywords = call(op, inputs)
    bound = [runtime.op(op.name, require=id) for id in ids]
    results = [one(*arrays, **keywords, **params) for one in bound]
    times: tuple[list[float], list[float]] = ([], [])
    while len(times[0]) < 3 or sum(map(sum, times)) < BUDGET_S:
        for one, taken in zip(bound, times, strict=True):
            start = perf_counter()
            one(*arrays, **keywords, **params)
            taken.append(perf_counter() - start)
        if sum(map(sum, times)) > 10 * BUDGET_S:
            break
    return [{"id": id, "seconds": median(taken)} for id, taken in zip(ids, times, strict=True)], results


def _hold_against_definition(
    runtime: Runtime,
    op: Operation[Any, Any],
    rows: list[dict[str, Any]],
    results: list[NDArray[Any]],
    inputs: Arrays,
    params: dict[str, Any],
) -> None:
    expected = op.expect(Probe("", inputs, params))
    for row, result in zip(rows, results, strict=True):
        accuracy = runtime.explain(op.name)[row["id"]].implementation.capabilities.accuracy
        tolerance = op.tolerance("", inputs, params, expected, accuracy)
        comparison = compare("", result, expected, tolerance)
        row |= {"error": comparison.measurement.max_abs, "limit": comparison.measurement.limit}
        row |= {"rms": comparison.measurement.rms, "wrong": comparison.wrong}


def _show(report: dict[str, Any]) -> None:
    shown = table(
        "Implementation", "Error", "Admitted", "RMS", "Time", right=("Error", "Admitted", "RMS", "Time")
    )
    for row in report["implementations"]:
        figures = (
            f"{row['error']:.1e}",
            f"{row['limit']:.1e}",
            f"{row['rms']:.1e}",
            duration(row["seconds"]),
        )
        shown.add_row(row["id"], *figures)
    out = console()
    out.print(shown)
    first, second = report["implementations"]
    fast, slow = sorted((first, second), key=lambda row: row["seconds"])
    out.print(
        f"Difference: {report['difference']:.1e} at most, {report['difference_rms']:.1e} root mean square."
    )
    out.print(f"{fast['id']} was {slow['seconds'] / fast['seconds']:.1f} times faster.")
    out.print(
        "Error: against the float64 definition of this input, where it comes closest to what is admitted."
    )
    for row in report["implementations"]:
        if row["wrong"]:
            out.print(f"{row['id']} is wrong on this input: {row['wrong']}", style="red")
    if report["plot"]:
        out.print(f"The difference is drawn in {report['plot']}.")
