"""``assay plugins``: what is installed and what it offers."""

from __future__ import annotations

from typing import Any

from assay.cli import DONE, WRONG
from assay.cli.options import ConfigFile, Json
from assay.cli.output import console, emit, table
from assay.cli.session import opened
from assay.registry import Plugin


def command(config: ConfigFile = None, json: Json = False) -> int:
    """List the plugins and what they offer."""
    with opened(config, ops=()) as runtime:
        rows = [describe(plugin) for plugin in runtime.registry.plugins]
    if json:
        emit({"plugins": rows})
    elif rows:
        shown = table("Plugin", "Distribution", "State", "Offers", whole=("Plugin", "Distribution"))
        for row in rows:
            offers = ", ".join(row["offers"]) or "-"
            shown.add_row(row["plugin"], row["distribution"], _state(row), offers)
        console().print(shown)
    else:
        print("No plugin is installed: pip install assay-mel, for example.")
    return WRONG if any(row["problems"] for row in rows) else DONE


def describe(plugin: Plugin) -> dict[str, Any]:
    """One plugin as data."""
    return {
        "plugin": plugin.name,
        "distribution": str(plugin.distribution),
        "skipped": plugin.skipped,
        "problems": plugin.problems,
        "offers": plugin.offers,
    }


def _state(row: dict[str, Any]) -> str:
    if row["problems"]:
        return "failed: " + "; ".join(row["problems"])
    return f"skipped: {row['skipped']}" if row["skipped"] else "loaded"
