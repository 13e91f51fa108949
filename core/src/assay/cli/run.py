"""``assay run OP FILE``: one request from a file, and what ran."""

from __future__ import annotations

import contextlib
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import typer

from assay.cli import DONE, Misused
from assay.cli.files import check_suffix, whole
from assay.cli.inputs import call, check_name, check_there, external, parse, read
from assay.cli.options import ConfigFile, InputFile, Json, Op, Params, Require
from assay.cli.output import amount, console, duration, emit, rate, table
from assay.cli.session import opened
from assay.contract.candidate import Candidate, Decision
from assay.contract.operation import Array, Operation

Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="OUT.npy", help="Where the result goes.")
]
Picture = Annotated[Path | None, typer.Option("--plot", metavar="OUT.png", help="Draw the result.")]


def command(
    op: Op,
    file: InputFile,
    output: Output = None,
    plot: Picture = None,
    require: Require = None,
    param: Params = None,
    config: ConfigFile = None,
    json: Json = False,
) -> int:
    """Compute one file, and say what ran."""
    check_suffix(output, "--output", ".npy")
    check_suffix(plot, "--plot", ".png", ".pdf", ".svg")
    check_there(file)
    with opened(config, ops=(op,)) as runtime:
        operation = runtime.registry.operation(op)
        if plot is not None and operation.plot is None:
            raise Misused(f"{op} has no picture: leave --plot out")
        params = parse(operation, param)
        check_name(runtime.explain(op), require)
        inputs = read(operation, file)
        bound = runtime.op(op, require=require)
        arrays, keywords = call(operation, inputs)
        start = perf_counter()
        result = bound(*arrays, **keywords, **params)
        seconds = perf_counter() - start
        work = operation.work(inputs, {**operation.defaults, **params})
        report = _report(operation, runtime.explain(op), result, seconds, work)
        _write(operation, result, output, plot, file.name)
    report |= {"file": str(file), "output": output and str(output), "plot": plot and str(plot)}
    if json:
        emit(report)
    else:
        _show(report)
    return DONE


def _write(
    op: Operation[Any, Any], result: Array, output: Path | None, plot: Path | None, title: str
) -> None:
    """Both files or neither."""
    with contextlib.ExitStack() as stack:
        if output is not None:
            with stack.enter_context(whole(output)).open("wb") as file:
                np.save(file, result, allow_pickle=False)
        if plot is not None:
            external(op.plot)(result, stack.enter_context(whole(plot)), title=title)


def _report(
    op: Operation[Any, Any], decision: Decision, result: Array, seconds: float, work: float
) -> dict[str, Any]:
    """What ran, by the counters of the kernels themselves."""
    ran = next(candidate for candidate in decision.candidates if candidate.counters.calls)
    worst = ran.certificate.worst if ran.certificate else None
    return {
        "operation": op.name,
        "implementation": ran.id,
        "distribution": str(ran.distribution),
        "failed": {c.id: dict(c.counters.failures) for c in decision.candidates if c.counters.failures},
        "device": ran.plan and f"{ran.plan.device.id} ({ran.plan.device.name})",
        "batch_size": _batch(ran),
        "batches": ran.counters.batches or 1,
        "error": worst and worst.max_abs,
        "limit": worst and worst.limit,
        "seconds": seconds,
        "kernel_seconds": ran.counters.seconds,
        "work": work,
        "work_unit": op.work_unit,
        "work_per_second": work / seconds,
        "shape": list(result.shape),
        "dtype": result.dtype.name,
    }


def _batch(candidate: Candidate) -> int | None:
    items = candidate.implementation.capabilities.form == "items"
    return candidate.plan.batch_size if items and candidate.plan else None


def _show(report: dict[str, Any]) -> None:
    shown = table("", "", show_header=False)
    shown.add_row("result", f"{report['dtype']} {tuple(report['shape'])}")
    shown.add_row("ran", f"{report['implementation']} ({report['distribution']})")
    for id, failures in report["failed"].items():
        shown.add_row("failed first", f"{id}: {', '.join(failures)}")
    shown.add_row("device", report["device"])
    batch = report["batch_size"]
    shown.add_row(
        "batch", "the whole request" if batch is None else f"{batch} items, {report['batches']} call(s)"
    )
    error = report["error"]
    shown.add_row(
        "proven error",
        "none: it was not proved" if error is None else f"{error:.1e}, admitted {report['limit']:.1e}",
    )
    shown.add_row("time", f"{duration(report['seconds'])} for {amount(report['work'])} {report['work_unit']}")
    shown.add_row(
        "", f"{duration(report['kernel_seconds'])} of it in the kernel; the rest is what a first call sets up"
    )
    shown.add_row("speed", rate(report["work_per_second"], report["work_unit"]))
    for key in ("output", "plot"):
        if report[key]:
            shown.add_row("wrote", report[key])
    console().print(shown)
