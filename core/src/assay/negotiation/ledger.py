"""Certificates and speeds kept on disk between starts: one self-digested file each, written atomically."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import platformdirs

from assay.contract.candidate import Candidate, Certificate, dump_certificate, load_certificate
from assay.contract.errors import AssayError
from assay.contract.log import emit
from assay.negotiation.fingerprint import changes
from assay.negotiation.speed import Shapes

T = TypeVar("T")

KEPT = 16
"""Certificates of one implementation, and races of one operation; the oldest beyond are forgotten."""


def default_folder() -> Path:
    """The user's cache folder for certificates."""
    return Path(platformdirs.user_cache_dir("assay", appauthor=False)) / "ledger"


@dataclass(frozen=True, slots=True)
class Race:
    """What proven candidates took for one request of each kind, measured in turns, in seconds by id.

    Without ``shapes`` and ``params`` the request is the operation's standard workload.
    """

    op: str
    seconds: Mapping[str, float]
    shapes: Sequence[Shapes] = ()
    params: Mapping[str, Any] = field(default_factory=dict)


class Ledger:
    """A folder of certificates. A damaged file is set aside and never trusted.

    A folder that cannot be read or written costs the memory between starts, not the start.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or default_folder()
        self._complained = False

    def find(self, key: Mapping[str, str]) -> Certificate | None:
        """The certificate for exactly this key."""
        certificate = self._certificate(self._path(key))
        return certificate if certificate is not None and dict(certificate.key) == dict(key) else None

    def why_not(self, key: Mapping[str, str]) -> str:
        """Which fields changed since the nearest certificate of the implementation; "": there is none."""
        paths = self._of(key["implementation"])
        older = [certificate for path in paths if (certificate := self._certificate(path)) is not None]
        if not older:
            return ""
        nearest = min(older, key=lambda certificate: len(changes(certificate.key, key)))
        return "; ".join(changes(nearest.key, key))

    def all(self) -> list[Certificate]:
        """Every sound certificate, by implementation."""
        found = [self._certificate(path) for path in sorted(self.folder.glob("*.json"))]
        return [certificate for certificate in found if certificate is not None]

    def write(self, certificate: Certificate) -> None:
        """Keep a certificate: all of it or nothing."""
        self._write(self._path(certificate.key), {"certificate": dump_certificate(certificate)})
        self._forget(self._of(certificate.id))

    def race(self, op: str, candidates: Iterable[Candidate]) -> Race | None:
        """What exactly these candidates took, with exactly these certificates, when they were last raced."""
        return self._race(self._race_path(op, candidates))

    def tuned(self, op: str) -> Race | None:
        """The last race of an operation, if a user chose its workload."""
        for path in reversed(self._races(op)):
            if (race := self._race(path)) is not None:
                return race if race.shapes or race.params else None
        return None

    def write_race(self, race: Race, candidates: Iterable[Candidate]) -> None:
        """Keep the figures of a race, in place of those candidates' last one."""
        self._write(self._race_path(race.op, candidates), {"race": asdict(race)})
        self._forget(self._races(race.op))

    def export(self, path: Path, certificates: Iterable[Certificate]) -> int:
        """Write certificates to one file, for machines like this one; returns how many.

        Raises:
            OSError: The file cannot be written.
        """
        sealed = [_seal({"certificate": dump_certificate(one)}) for one in certificates]
        path.write_text(json.dumps(sealed, indent=1), encoding="utf-8")
        return len(sealed)

    def import_(self, path: Path) -> list[Certificate]:
        """Take the certificates of an exported file. Those whose key does not fit here are never used.

        Raises:
            AssayError: The file is damaged; nothing of it is taken.
            OSError: It cannot be read.
        """
        try:
            sealed = json.loads(path.read_text(encoding="utf-8"))
            certificates = [load_certificate(_open(one)["certificate"]) for one in sealed]
        except _DAMAGED as error:
            raise AssayError(
                f"{path} is no export of certificates, or is damaged: {type(error).__name__}: {error}"
            ) from error
        for certificate in certificates:
            self.write(certificate)
        return certificates

    @contextlib.contextmanager
    def lock(self, name: str, timeout_s: float) -> Iterator[None]:
        """Hold a name, so that of many processes that start at once one proves and the others wait."""
        import filelock  # only a start without a certificate needs it

        path = self.folder / f"{name}.lock"
        held = filelock.FileLock(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            held.acquire(timeout=timeout_s)
        except (OSError, NotImplementedError, filelock.Timeout) as error:
            self._complain("ledger.unlocked", error)  # proving twice is better than not starting
            yield
            return
        try:
            yield
        finally:
            held.release()

    def _path(self, key: Mapping[str, str]) -> Path:
        return self.folder / f"{key['implementation']}-{_name(sorted(key.items()))}.json"

    def _race_path(self, op: str, candidates: Iterable[Candidate]) -> Path:
        keys = [sorted(c.certificate.key.items()) for c in candidates if c.certificate is not None]
        return self.folder / f"{op}-{_name(sorted(keys))}.race"

    def _of(self, id: str) -> list[Path]:
        return _by_age(self.folder.glob(f"{id}-{HEX}.json"))

    def _races(self, op: str) -> list[Path]:
        return _by_age(self.folder.glob(f"{op}-{HEX}.race"))

    def _forget(self, paths: Sequence[Path]) -> None:
        for path in paths[:-KEPT]:
            with contextlib.suppress(OSError):
                path.unlink()

    def _certificate(self, path: Path) -> Certificate | None:
        return self._read(path, lambda data: load_certificate(data["certificate"]))

    def _race(self, path: Path) -> Race | None:
        return self._read(path, _load_race)

    def _write(self, path: Path, data: Mapping[str, Any]) -> None:
        name = ""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self.folder, suffix=".part")
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(_seal(data))
            os.chmod(name, 0o644)  # a folder may be shared
            os.replace(name, path)
        except OSError as error:
            self._complain("ledger.unwritable", error)
            if name:
                Path(name).unlink(missing_ok=True)

    def _read(self, path: Path, load: Callable[[Any], T]) -> T | None:
        try:
            return load(_open(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except _DAMAGED as error:
            kept = path.with_suffix(".damaged")
            with contextlib.suppress(OSError):
                os.replace(path, kept)
            why = f"{type(error).__name__}: {error}"
            emit(logging.WARNING, "ledger.damaged", path=str(path), error=why, kept=str(kept))
        except OSError as error:
            self._complain("ledger.unreadable", error)
        return None

    def _complain(self, event: str, error: Exception) -> None:
        if not self._complained:
            emit(logging.WARNING, event, folder=str(self.folder), error=str(error))
        self._complained = True


HEX = "[0-9a-f]" * 24

_DAMAGED = (ValueError, KeyError, TypeError, AttributeError, RecursionError, IsADirectoryError)


def _by_age(paths: Iterable[Path]) -> list[Path]:
    """Oldest first; one that is gone meanwhile is left out."""
    aged = []
    for path in paths:
        with contextlib.suppress(OSError):
            aged.append((path.stat().st_mtime_ns, path))
    return [path for _, path in sorted(aged)]


def _name(key: Any) -> str:
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]


def _seal(data: Mapping[str, Any]) -> str:
    """Text that carries its own digest."""
    body = json.dumps(data, sort_keys=True)
    return json.dumps({"sha256": hashlib.sha256(body.encode()).hexdigest(), "body": body})


def _open(text: str) -> Any:
    outer = json.loads(text)
    if hashlib.sha256(outer["body"].encode()).hexdigest() != outer["sha256"]:
        raise ValueError("its digest does not match")
    return json.loads(outer["body"])


def _load_race(data: Any) -> Race:
    race = data["race"]
    return Race(
        op=str(race["op"]),
        seconds={str(id): float(seconds) for id, seconds in race["seconds"].items()},
        shapes=[[tuple(map(int, shape)) for shape in request] for request in race["shapes"]],
        params=dict(race["params"]),
    )
