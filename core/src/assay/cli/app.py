"""The application: every command, and what comes before one."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated

import typer

from assay import __version__
from assay.cli import COMMANDS, MISUSED


def build() -> typer.Typer:
    """The application with every command."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.callback(invoke_without_command=True)(_top)
    for name in COMMANDS:
        app.command(name.replace("_", "-"))(import_module(f"assay.cli.{name}").command)
    return app


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"assay {__version__}")
        raise typer.Exit


def _top(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and stop.")
    ] = False,
) -> None:
    """Compute kernels are assayed before they serve."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(MISUSED)
