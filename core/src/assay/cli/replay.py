"""``assay replay FILE``: run a captured input again, on every implementation that may serve."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from assay.cli import DONE, WRONG
from assay.cli.options import ConfigFile, Json
from assay.cli.output import console, duration, emit, table
from assay.cli.session import opened
from assay.scheduler.capture import Captured, Outcome, load

File = Annotated[Path, typer.Argument(metavar="FILE", help="A file that [fallback] capture has kept.")]


def command(file: File, config: ConfigFile = None, json: Json = False) -> int:
    """Run a captured input again, and hold every result against the reference.

    Exit 1 if the implementation that failed fails again.
    """
    captured = load(file)
    with opened(config, ops=(captured.op,)) as runtime:
        outcomes = runtime.replay(file)
    if json:
        about = {"op": captured.op, "failed": captured.failed, "what": captured.what, "made": captured.made}
        emit({**about, "params": dict(captured.params), "outcomes": [asdict(one) for one in outcomes]})
    else:
        _show(captured, outcomes)
    again = any(one.id == captured.failed and one.wrong for one in outcomes)
    return WRONG if again else DONE


def _show(captured: Captured, outcomes: list[Outcome]) -> None:
    out = console()
    arrays = ", ".join(f"{array.dtype} {array.shape}" for array in captured.inputs if array is not None)
    terms = ", ".join([arrays, *(f"{name}={value!r}" for name, value in captured.params.items())])
    out.print(f"{captured.op}: {terms}")
    out.print(f"{captured.failed} failed on it at {captured.made}: {captured.what}")
    rows = table("implementation", "time", "error", "verdict", right=("time", "error"))
    for one in outcomes:
        seconds = "" if one.seconds is None else duration(one.seconds)
        error = "" if one.max_abs is None else f"{one.max_abs:.1e}"
        rows.add_row(one.id, seconds, error, one.wrong or "right")
    out.print(rows)
