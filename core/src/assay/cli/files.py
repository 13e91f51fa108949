"""Output files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from assay.cli import Misused
from assay.contract.errors import AssayError


def check_suffix(path: Path | None, option: str, *suffixes: str) -> None:
    """Refuse an output file whose ending promises another format.

    Raises:
        Misused: With the endings that are possible.
    """
    if path is not None and path.suffix.lower() not in suffixes:
        raise Misused(f"{option} {path}: the name must end in {' or '.join(suffixes)}")


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A name to write to beside the path, moved there when all went well and removed when not.

    Raises:
        AssayError: The folder cannot be made or written.
    """
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.replace(part, path)
    except OSError as error:
        raise AssayError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):  # it was moved, or never made
            part.unlink()
