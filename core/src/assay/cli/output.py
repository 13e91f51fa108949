"""How commands speak: tables or JSON on standard output, notes and progress on standard error."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

WIDE = 120
"""Columns where the output is no terminal and COLUMNS does not say."""


def console() -> Console:
    """Standard output."""
    from rich.console import Console

    wide = None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDE
    return Console(width=wide, highlight=False, markup=False, emoji=False)


def table(*columns: str, right: tuple[str, ...] = (), whole: tuple[str, ...] = (), **settings: Any) -> Table:
    """An empty table; ``right`` names the columns of figures, ``whole`` those that are never wrapped."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", **settings)
    for column in columns:
        justify: Any = "right" if column in right else "left"
        made.add_column(column, justify=justify, no_wrap=column in whole, overflow="fold")
    return made


def emit(data: Any) -> None:
    """JSON on standard output; what JSON cannot hold (NaN, infinities) is null."""
    print(json.dumps(_plain(data), indent=2, allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def note(text: str) -> None:
    """One line beside the result."""
    print(f"assay: {text}", file=sys.stderr)


@contextlib.contextmanager
def spinner() -> Iterator[Callable[[str], None]]:
    """Says what is being done, and for how long, while a terminal looks on; nothing is left of it."""
    if not sys.stderr.isatty():
        yield lambda what: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("starting", total=None)
        yield lambda what: progress.update(task, description=what)


@contextlib.contextmanager
def bar(total: int, what: str) -> Iterator[Callable[[str], None]]:
    """A progress bar; call with what is done next."""
    if not sys.stderr.isatty():
        yield lambda step: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        started = False

        def advance(step: str) -> None:
            nonlocal started
            progress.update(task, description=f"{what} {step}", advance=1 if started else 0)
            started = True

        yield advance


def duration(seconds: float | None) -> str:
    """12.3 ms, three digits."""
    if seconds is None:
        return "-"
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{_digits(seconds / scale)} {unit}"
    return f"{_digits(seconds * 1e9)} ns"


def amount(value: float) -> str:
    """1.23 M, three digits."""
    for unit, scale in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= scale:
            return f"{_digits(value / scale)} {unit}"
    return _digits(value)


def rate(work_per_second: float, unit: str) -> str:
    """Work per second, as a person says it: of something that lasts, how many times real time."""
    per_second = amount(work_per_second)
    return f"{per_second} x real time" if unit.endswith("seconds") else f"{per_second} {unit}/s"


def size(count: float) -> str:
    """1.23 MB, three digits."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{_digits(count / scale)} {unit}"
    return f"{count:.0f} B"


def _digits(value: float) -> str:
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}" if value > 0 else "0"
