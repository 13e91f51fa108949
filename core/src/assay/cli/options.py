"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="Configuration file; else ASSAY_CONFIG, ./assay.toml, the user's own."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Data instead of tables.")]
Op = Annotated[str, typer.Argument(metavar="OP", help="An operation: mel, gelu, ...")]
InputFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="What the operation reads, or .npy, or .npz with named inputs.")
]
Params = Annotated[
    list[str] | None,
    typer.Option(
        "--param", "-p", metavar="NAME=VALUE", help="A parameter of the operation; may be repeated."
    ),
]
Require = Annotated[
    str | None, typer.Option("--require", metavar="NAME", help="This implementation or an error.")
]
