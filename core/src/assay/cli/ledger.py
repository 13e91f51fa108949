"""``assay ledger list|export|import``: the certificates on disk, and the way to machines of the same kind."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from assay.cli import DONE, Misused
from assay.cli.options import ConfigFile, Json
from assay.cli.output import console, duration, emit, table
from assay.cli.session import source
from assay.config import load
from assay.contract.candidate import Certificate, dump_certificate
from assay.contract.errors import AssayError
from assay.negotiation.ledger import Ledger


class Action(StrEnum):
    """What to do with the ledger."""

    LIST = "list"
    EXPORT = "export"
    IMPORT = "import"


What = Annotated[
    Action, typer.Argument(help="Show the certificates, write them to a file, or take a file's.")
]
File = Annotated[Path | None, typer.Argument(metavar="[FILE]", help="The file to write or to read.")]


def command(
    action: What = Action.LIST, file: File = None, config: ConfigFile = None, json: Json = False
) -> int:
    """Look after the certificates on disk.

    An imported certificate is used only where everything that it names is the same: the kernel's code,
    the packages, the device, its driver. Elsewhere the kernel proves itself as usual.
    """
    ledger = Ledger(load(source(config)).config.proof.ledger)
    if action is Action.LIST and file is None:
        certificates = ledger.all()
        note = f"{len(certificates)} certificate(s) in {ledger.folder}"
    elif action is Action.LIST or file is None:
        raise Misused(f"write: assay ledger {'list' if action is Action.LIST else f'{action.value} FILE'}")
    else:
        certificates = ledger.all()
        try:
            if action is Action.EXPORT:
                ledger.export(file, certificates)
            else:
                certificates = ledger.import_(file)
        except OSError as error:
            raise AssayError(f"{file}: {error.strerror or error}") from error
        way = "written to" if action is Action.EXPORT else "taken from"
        note = f"{len(certificates)} certificate(s) {way} {file}"
    if json:
        emit({"folder": str(ledger.folder), "certificates": [dump_certificate(one) for one in certificates]})
        return DONE
    if action is Action.LIST:
        _show(certificates)
    console().print(note)
    return DONE


def _show(certificates: list[Certificate]) -> None:
    shown = table(
        "Implementation", "Distribution", "Device", "Error", "Time", "Made", right=("Error", "Time")
    )
    for one in certificates:
        distribution = " ".join(one.key.get("distribution", "").split()[:2])
        shown.add_row(
            one.id,
            distribution,
            one.key.get("device", ""),
            f"{one.worst.max_abs:.1e}",
            duration(one.seconds),
            one.made,
        )
    console().print(shown)
