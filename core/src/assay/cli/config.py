"""``assay config``: the configuration in force, and where each value came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from assay.cli import DONE, WRONG
from assay.cli.options import ConfigFile, Json
from assay.cli.output import console, emit, table
from assay.cli.session import opened
from assay.config import Loaded
from assay.contract.errors import ConfigError
from assay.runtime import Runtime

Check = Annotated[
    Path | None, typer.Option("--check", metavar="FILE", help="Only say whether this file is valid.")
]


def command(check: Check = None, config: ConfigFile = None, json: Json = False) -> int:
    """Show each value and where it came from."""
    if check is not None:
        return _check(check, json)
    with opened(config, ops=()) as runtime:
        loaded = runtime.loaded
    rows = [
        {"key": key, "value": value, "source": loaded.sources.get(key, "default")}
        for key, value in _leaves(loaded)
    ]
    path = loaded.path and str(loaded.path)
    if json:
        emit({"file": path, "values": rows})
        return DONE
    shown = table("Key", "Value", "From")
    for row in rows:
        shown.add_row(row["key"], _text(row["value"]), row["source"])
    out = console()
    out.print(f"Configuration file: {path or 'none'}")
    out.print(shown)
    return DONE


def _check(path: Path, json: bool) -> int:
    """Load a file with the environment over it, and look every name up that it mentions."""
    try:
        with Runtime(path, ops=()) as runtime:
            count = sum(source.startswith(f"{path}:") for source in runtime.loaded.sources.values())
    except ConfigError as error:
        problems = str(error).splitlines()
        if json:
            emit({"file": str(path), "valid": False, "problems": problems})
        else:
            print("\n".join(problems))
        return WRONG
    if json:
        emit({"file": str(path), "valid": True, "problems": []})
    else:
        print(f"{path} is valid: {count} value(s)")
    return DONE


def _leaves(loaded: Loaded) -> Iterator[tuple[str, Any]]:
    yield from _flat(loaded.config.model_dump(mode="json"), "")


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _text(value: Any) -> str:
    """As it would stand in the file."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    return str(value)
