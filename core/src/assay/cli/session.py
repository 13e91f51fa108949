"""Opens a runtime for a command: which configuration, which log events, and progress while it proves."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from assay.cli.output import note, spinner
from assay.config import Config
from assay.runtime import Runtime

LOCAL = Path("assay.toml")

TOLD = ("event=candidate.rejected", "event=plugin.failed", "event=op.negotiated")
"""Events that the commands tell in their own words."""


def source(given: Path | None) -> Path | None:
    """The configuration file that a command goes by; None: what the library would take."""
    if given is None and not os.environ.get("ASSAY_CONFIG") and LOCAL.is_file():
        note("using ./assay.toml")
        return LOCAL
    return given


@contextlib.contextmanager
def opened(given: Path | Config | None, *, ops: Iterable[str] | None = None) -> Iterator[Runtime]:
    """A runtime for one command.

    Args:
        given: The file of ``--config``, or a whole configuration.
        ops: The operations to negotiate; (): none, for commands that only look; None: all.
    """
    _log_to_stderr()
    with _proving() as progress:
        runtime = Runtime(given if isinstance(given, Config) else source(given), ops=ops, progress=progress)
    with runtime:
        failed = sorted(plugin.name for plugin in runtime.registry.plugins if plugin.problems)
        if failed:
            note(f"failed to load: {', '.join(failed)} (assay doctor says why)")
        yield runtime


@contextlib.contextmanager
def _proving() -> Iterator[Callable[[str], None]]:
    with spinner() as say:
        yield lambda what: say(f"assaying {what}")


def _log_to_stderr() -> None:
    logger = logging.getLogger("assay")
    if logger.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(lambda record: not record.getMessage().startswith(TOLD))
    handler.setLevel(logging.WARNING)
    logger.addHandler(handler)
