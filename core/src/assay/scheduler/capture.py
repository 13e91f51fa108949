"""Failing inputs kept in a bounded folder, and run again: what ``assay replay FILE`` does."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assay.config import FallbackConfig
from assay.contract.errors import AssayError
from assay.contract.operation import Arrays, Operation, Params
from assay.negotiation.compare import compare
from assay.scheduler.roster import Roster
from assay.scheduler.route import Leg
from assay.scheduler.steward import Steward

WAITING = 4
"""Copies of inputs that wait to be written, at most."""


@dataclass(frozen=True, slots=True)
class Captured:
    """One kept request: what failed, and everything that is needed to run it again."""

    op: str
    version: str
    failed: str
    """The id of the implementation that failed."""
    what: str
    made: str
    params: Mapping[str, Any]
    inputs: Arrays


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one implementation makes of a captured request; ``wrong`` is empty when it is right."""

    id: str
    seconds: float | None = None
    max_abs: float | None = None
    wrong: str = ""


class Captures:
    """Keeps the inputs of failed calls where the configuration names a folder; written in the background."""

    def __init__(self, steward: Steward) -> None:
        self._steward = steward
        self._waiting = 0

    def offer(self, policy: FallbackConfig, leg: Leg, inputs: Arrays, what: str) -> None:
        """Take a copy of a failed request, unless none is to be kept or too many wait."""
        folder, limit = policy.capture, policy.capture_limit
        if folder is None or self._waiting >= WAITING:
            return
        self._waiting += 1
        kept = tuple(None if array is None else array.copy() for array in inputs)
        id = leg.server.candidate.id

        def write() -> None:
            try:
                save(folder, limit, leg.op, id, kept, leg.params, what)
            finally:
                self._waiting -= 1

        self._steward.at(0.0, write)


def digest(inputs: Arrays, params: Params) -> str:
    """A name for a request: the same arrays and parameters have the same one."""
    made = hashlib.blake2b(repr(sorted(params.items())).encode(), digest_size=8)
    for array in inputs:
        if array is not None:
            made.update(f"{array.dtype} {array.shape}".encode())
            made.update(np.ascontiguousarray(array).tobytes())
    return made.hexdigest()


def save(
    folder: Path,
    limit: int,
    op: Operation[Any, Any],
    failed: str,
    inputs: Arrays,
    params: Params,
    what: str,
) -> Path:
    """Keep a request; the oldest ones go when there are more than ``limit``.

    Raises:
        OSError: The folder cannot be written.
        TypeError: A parameter is no plain value.
    """
    import tempfile  # like zipfile below: only who keeps inputs or runs them again needs it

    about = {
        "op": op.name,
        "version": op.version,
        "failed": failed,
        "what": what,
        "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "params": dict(params),
        "dtypes": [None if array is None else array.dtype.name for array in inputs],
    }
    text = np.frombuffer(json.dumps(about).encode(), np.uint8)
    arrays = {f"input{i}": array for i, array in enumerate(inputs) if array is not None}
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{failed}-{digest(inputs, params)}.npz"
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".part", delete=False) as file:
        np.savez(file, about=text, **arrays)  # type: ignore[arg-type]  # names of arrays, not its options
    os.replace(file.name, path)
    ours = sorted(folder.glob(f"*-{'[0-9a-f]' * 16}.npz"), key=lambda one: one.stat().st_mtime_ns)
    for old in ours[:-limit]:
        old.unlink(missing_ok=True)
    return path


def load(path: Path) -> Captured:
    """Read a kept request.

    Raises:
        AssayError: The file is missing, or is none that Assay has written.
    """
    import zipfile

    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            about = json.loads(file["about"].tobytes())
            inputs = tuple(
                # NumPy forgets the names of dtypes that are not its own.
                None if name is None else file[f"input{i}"].view(np.dtype(name))
                for i, name in enumerate(about.pop("dtypes"))
            )
        return Captured(inputs=inputs, **about)
    except FileNotFoundError:
        raise AssayError(f"{path} does not exist") from None
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise AssayError(
            f"{path} is no input that Assay has kept, or is damaged ({type(error).__name__}); "
            "give a .npz file from the folder of [fallback] capture"
        ) from error


def replay(roster: Roster, captured: Captured) -> list[Outcome]:
    """Run a kept request on every implementation that may serve, each held against the reference.

    Raises:
        AssayError: It was kept for another version of the operation.
    """
    op, inputs, params = roster.op, captured.inputs, captured.params
    if (captured.op, captured.version) != (op.name, op.version):
        here = f"{op.name} version {op.version}"
        raise AssayError(f"the input is for {captured.op} version {captured.version}; here is {here}")
    expected = op.reference(*inputs[: len(op.required)], **op.keywords(inputs, params))
    outcomes = []
    for server, leg in roster.legs(inputs, params):
        id = server.candidate.id
        if not isinstance(leg, Leg):
            outcomes.append(Outcome(id, wrong=f"does not take it: {leg[1]}"))
            continue
        try:
            result, seconds = leg.answer(inputs)
        except Exception as error:  # noqa: BLE001  # a kernel may raise anything
            outcomes.append(Outcome(id, wrong=f"raised {type(error).__name__}: {error}"))
            continue
        compared = compare("replay", result, expected, leg.admitted(inputs, expected))
        outcomes.append(Outcome(id, seconds, compared.measurement.max_abs, compared.wrong))
    return outcomes
