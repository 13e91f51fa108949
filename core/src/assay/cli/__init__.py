"""The command ``assay``: what runs, why, and how well. One module per command; needs the extra ``cli``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import cast

from assay.contract.errors import AssayError, ConfigError, UnknownOperation

COMMANDS = (
    "status",
    "explain",
    "run",
    "bench",
    "tune",
    "compare",
    "prove",
    "ledger",
    "replay",
    "new_plugin",
    "plugins",
    "config",
    "doctor",
)
"""Modules of this package in the order of ``--help``. Each has a function ``command``,
whose arguments and docstring are the command's, and which returns the exit code."""

DONE, WRONG, MISUSED = 0, 1, 2
"""Exit codes: done; it ran and something is wrong; it was called wrongly."""


class Misused(AssayError):
    """The command line asks for something that cannot be."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code. What a person did wrong is said on standard error."""
    try:
        from assay.cli.app import build
    except ModuleNotFoundError as error:
        return _say(f"the command line needs {error.name}: pip install 'assay[cli]'", MISUSED)
    try:
        return cast("int | None", build()(arguments, standalone_mode=False)) or DONE
    except (Misused, ConfigError, UnknownOperation) as error:
        return _say(error, MISUSED)
    except AssayError as error:
        return _say(error, WRONG)
    except Exception as error:
        # Only the parser's own errors have this; anything else is a defect and keeps its traceback.
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        return _say(f"{message()} (see assay --help)", MISUSED)


def _say(what: object, code: int) -> int:
    print(f"assay: {what}", file=sys.stderr)
    return code
