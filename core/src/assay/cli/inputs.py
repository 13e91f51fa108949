"""From what a person types to what an operation takes: a file to arrays, NAME=VALUE to parameters."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from assay.cli import Misused
from assay.contract.candidate import Decision
from assay.contract.errors import AssayError
from assay.contract.naming import near, selects
from assay.contract.operation import Array, Arrays, Operation
from assay.negotiation.target import resolve

ARRAYS = (".npy", ".npz")
MAGIC = (b"\x93NUMPY", b"PK")
"""How files of these formats begin."""


def read(op: Operation[Any, Any], path: Path) -> Arrays:
    """The inputs of a request, in the operation's order.

    A .npy holds the one input, a .npz all of them by name; everything else is for the operation's reader.

    Raises:
        AssayError: The file is missing, unreadable, or not what the operation takes.
    """
    check_there(path)
    if path.suffix.lower() not in ARRAYS and op.reader is None:
        raise AssayError(f"{op.name} reads {' and '.join(ARRAYS)} files, not {path.name}: {_takes(op)}")
    try:
        return _arrays(op, path) if path.suffix.lower() in ARRAYS else tuple(external(op.reader)(path))
    except AssayError:
        raise
    except Exception as error:
        raise AssayError(f"{path} cannot be read: {str(error) or type(error).__name__}") from error


def check_there(path: Path) -> None:
    """Refuse a file that is not there, before anything dear is done.

    Raises:
        AssayError: It is missing, or a folder.
    """
    if not path.is_file():
        raise AssayError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}")


def _arrays(op: Operation[Any, Any], path: Path) -> Arrays:
    with path.open("rb") as file:
        if not file.read(6).startswith(MAGIC):
            raise AssayError(f"{path} is no NumPy file, in spite of its name")
    loaded = np.load(path, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        if len(op.required) != 1:
            raise AssayError(f"{path} holds one array, but {_takes(op)}: put them into a .npz by name")
        return (loaded, *[None] * len(op.optional))
    with loaded:
        names = [item.name for item in op.inputs]
        for name in loaded.files:
            if name not in names:
                raise AssayError(
                    f"{path} holds {name!r}, which is no input of {op.name}: {near(name, names)}"
                )
        if missing := [item.name for item in op.required if item.name not in loaded.files]:
            raise AssayError(f"{path} lacks {', '.join(missing)}: {_takes(op)}")
        return tuple(loaded[name] if name in loaded.files else None for name in names)


def _takes(op: Operation[Any, Any]) -> str:
    optional = f" (and may take {', '.join(item.name for item in op.optional)})" if op.optional else ""
    return f"{op.name} takes {', '.join(item.name for item in op.required)}{optional}"


def external(target: str | None) -> Any:
    """What an operation names for the command line (its reader, its plot), imported now.

    Raises:
        AssayError: It needs a module that is not installed.
    """
    assert target is not None
    try:
        return resolve(target)
    except ModuleNotFoundError as error:
        raise AssayError(f"{target} needs the module {error.name}: pip install {error.name}") from error
    except ImportError as error:  # with what the plugin itself has to say
        raise AssayError(str(error)) from error


def parse(op: Operation[Any, Any], given: Sequence[str] | None) -> dict[str, Any]:
    """``n_mels=128`` as {"n_mels": 128}; what is no Python literal is taken as text.

    Raises:
        Misused: No such parameter, or no "=".
    """
    params: dict[str, Any] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise Misused(f"--param {text!r}: write NAME=VALUE")
        if name not in op.defaults:
            raise Misused(f"{op.name} has no parameter {name!r}: {near(name, op.defaults)}")
        params[name] = _literal(value)
    return params


def _literal(text: str) -> Any:
    lower = text.lower()
    if lower in ("true", "false"):
        return lower == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def check_name(decision: Decision, name: str | None) -> None:
    """Refuse a name or pattern that means no implementation at all.

    Raises:
        Misused: With the near name.
    """
    ids = [candidate.id for candidate in decision.candidates]
    if name is not None and not any(selects(name, id) for id in ids):
        hint = near(name.removeprefix(f"{decision.op}."), [id.split(".", 1)[1] for id in ids])
        raise Misused(f"{decision.op} has no implementation {name!r}: {hint}")


def call(op: Operation[Any, Any], inputs: Arrays) -> tuple[tuple[Array | None, ...], dict[str, Any]]:
    """Inputs in the operation's order as arguments: required ones by position, optional ones by keyword."""
    optional = zip(op.optional, inputs[len(op.required) :], strict=True)
    return inputs[: len(op.required)], {item.name: array for item, array in optional if array is not None}
