"""``assay bench OP``: what batching is worth on this machine, measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import typer

from assay.cli import DONE, WRONG, Misused
from assay.cli.inputs import check_name, check_there, parse, read
from assay.cli.options import ConfigFile, Json, Op, Params, Require
from assay.cli.output import bar, console, duration, emit, size, table
from assay.cli.session import opened
from assay.contract.candidate import Candidate, Verdict
from assay.contract.errors import NoImplementation
from assay.contract.naming import selects
from assay.contract.operation import Arrays, Operation, Probe, Spec
from assay.negotiation.compare import compare
from assay.negotiation.kernel import Kernel
from assay.negotiation.loading import load
from assay.runtime import Runtime

ROUNDS = 7
"""Every row is measured once a round, so that all see the same machine; the median counts."""

BUDGET_S = 20.0
"""After which no further round is begun (three are always run)."""

Sizes = Annotated[str, typer.Option("--batch-sizes", help="Batch sizes for item kernels, comma-separated.")]
OnFile = Annotated[
    Path | None,
    typer.Argument(metavar="[FILE]", help="Measure on this input; else on the standard workload."),
]


@dataclass(slots=True)
class Row:
    """One implementation at one batch size; None: it takes the whole request."""

    candidate: Candidate
    kernel: Kernel
    batch: int | None
    calls: int
    held: int
    wrong: str = ""
    error: float = 0.0
    times: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """The median."""
        return median(self.times)


def command(
    op: Op,
    file: OnFile = None,
    batch_sizes: Sizes = "1,10,100,1000",
    require: Require = None,
    param: Params = None,
    config: ConfigFile = None,
    json: Json = False,
) -> int:
    """Measure what batching is worth.

    Item kernels at several batch sizes, and every other implementation beside them.
    """
    sizes = _sizes(batch_sizes)
    if file is not None:
        check_there(file)
    with opened(config, ops=(op,)) as runtime:
        operation = runtime.registry.operation(op)
        check_name(runtime.explain(op), require)
        probe = _workload(operation, file, parse(operation, param))
        spec = operation.infer(
            *probe.inputs[: len(operation.required)], **operation.keywords(probe.inputs, probe.params)
        )
        rows = _rows(runtime, operation, probe, spec, sizes, require)
        if not rows:
            raise NoImplementation(f"nothing that may serve takes this workload\n{runtime.explain(op)}")
        try:
            _measure(operation, rows, probe, spec)
        finally:
            for row in rows:
                row.kernel.close()
    work = operation.work(probe.inputs, probe.params)
    single = min((row for row in rows if row.batch == 1), key=lambda row: row.seconds, default=None)
    data = [_dump(row, single, work) for row in rows]
    if json:
        emit({"operation": op, "work": work, "work_unit": operation.work_unit, "rows": data})
    else:
        rounds = len(rows[0].times)
        print(f"{op}, {work:g} {operation.work_unit}, median of {rounds} rounds in turns")
        _show(data, single)
    return WRONG if any(row.wrong for row in rows) else DONE


def _sizes(text: str) -> list[int]:
    try:
        sizes = sorted({int(part) for part in text.split(",") if part.strip()})
    except ValueError:
        sizes = []
    if not sizes or sizes[0] < 1:
        raise Misused(f"--batch-sizes {text!r}: write whole numbers from 1, such as 1,10,100")
    return sizes


def _workload(op: Operation[Any, Any], file: Path | None, params: dict[str, Any]) -> Probe:
    if file is None:
        probe = op.standard(np.random.default_rng())
        return replace(probe, params={**probe.params, **params})
    return Probe(file.name, read(op, file), {**op.defaults, **params})


def _rows(
    runtime: Runtime,
    op: Operation[Any, Any],
    probe: Probe,
    spec: Spec,
    sizes: Sequence[int],
    require: str | None,
) -> list[Row]:
    rows = []
    for candidate in runtime.explain(op.name).candidates:
        if candidate.verdict is Verdict.REJECTED or (require and not selects(require, candidate.id)):
            continue
        assert candidate.plan is not None
        capabilities = candidate.implementation.capabilities
        if capabilities.form == "whole":
            kernel = load(op, candidate, candidate.plan)
            if _takes(kernel, probe):
                rows.append(Row(candidate, kernel, None, 1, 0))
            continue
        for batch in sizes:
            if batch not in capabilities.batch_sizes:
                continue
            kernel = load(op, candidate, replace(candidate.plan, batch_size=batch))
            if _takes(kernel, probe):
                rows.append(_item_row(candidate, kernel, probe, spec))
    return rows


def _takes(kernel: Kernel, probe: Probe) -> bool:
    main = probe.inputs[0]
    assert main is not None
    return kernel.domain.refuses(main.dtype.name, probe.inputs, probe.params) is None


def _item_row(candidate: Candidate, kernel: Kernel, probe: Probe, spec: Spec) -> Row:
    """An item kernel holds one block of its inputs and, where it is given one, of its results."""
    items, batch = kernel.split(probe.inputs, probe.params), kernel.plan.batch_size
    elements = sum(int(np.prod(shape)) for shape in items.shapes)
    if kernel.gives_out:
        elements += int(np.prod(items.result_shape))
    held = max(batch * elements * spec.dtype.itemsize, kernel.plan.memory)
    return Row(candidate, kernel, batch, -(-items.count // batch), held)


def _measure(op: Operation[Any, Any], rows: list[Row], probe: Probe, spec: Spec) -> None:
    """One call of each is held against the definition; then they are timed in turns."""
    expected = op.expect(probe)
    start = perf_counter()
    with bar(1 + ROUNDS, "measuring") as advance:
        advance("")
        for row in rows:
            tolerance = op.tolerance(
                probe.kind, probe.inputs, probe.params, expected, row.kernel.plan.accuracy
            )
            result = compare(probe.name, _serve(row, probe.inputs, probe, spec), expected, tolerance)
            row.error, row.wrong = result.measurement.max_abs, result.wrong
        for turn in range(ROUNDS):
            if turn >= 3 and perf_counter() - start > BUDGET_S:
                break
            advance("")
            for row in rows:
                begin = perf_counter()
                _serve(row, probe.inputs, probe, spec)
                row.times.append(perf_counter() - begin)


def _serve(row: Row, inputs: Arrays, probe: Probe, spec: Spec) -> Any:
    out = np.empty(spec.shape, spec.dtype) if row.kernel.gives_out else None
    return row.kernel.serve(inputs, probe.params, spec, out)


def _dump(row: Row, single: Row | None, work: float) -> dict[str, Any]:
    return {
        "id": row.candidate.id,
        "batch_size": row.batch,
        "calls": row.calls,
        "seconds": row.seconds,
        "speed_up": single.seconds / row.seconds if single else None,
        "bytes_held": row.held,
        "latency_seconds": row.seconds / row.calls,
        "work_per_second": work / row.seconds,
        "error": row.error,
        "wrong": row.wrong,
    }


def _show(data: list[dict[str, Any]], single: Row | None) -> None:
    columns = ("Batch", "Calls", "Time", "Speed-up", "Held", "Per call", "Error")
    shown = table("Implementation", *columns, right=columns, whole=("Implementation", *columns))
    for row in data:
        items = row["batch_size"] is not None
        shown.add_row(
            row["id"],
            str(row["batch_size"]) if items else "whole",
            str(row["calls"]),
            duration(row["seconds"]),
            f"{row['speed_up']:.1f}" if row["speed_up"] else "-",
            size(row["bytes_held"]) if items else "-",
            duration(row["latency_seconds"]),
            "wrong" if row["wrong"] else f"{row['error']:.1e}",
        )
    out = console()
    out.print(shown)
    if single is not None:
        out.print(f"Speed-up: over {single.candidate.id}, one item at a time.")
    out.print("Held: the scheduler's buffers for one batch. Per call: how long one batch takes.")
    for row in data:
        if row["wrong"]:
            out.print(f"{row['id']}: {row['wrong']}", style="red")
