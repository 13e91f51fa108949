"""Certificates kept on disk between starts: one self-digested file each, written atomically."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import platformdirs

from assay.contract.candidate import Certificate, dump_certificate, load_certificate
from assay.contract.log import emit
from assay.negotiation.fingerprint import changes


def default_folder() -> Path:
    """The user's cache folder for certificates."""
    return Path(platformdirs.user_cache_dir("assay", appauthor=False)) / "ledger"


class Ledger:
    """A folder of certificates. A damaged file is set aside and never trusted.

    A folder that cannot be written costs the memory between starts, not the start.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or default_folder()

    def find(self, key: Mapping[str, str]) -> Certificate | None:
        """The certificate for exactly this key."""
        certificate = self._read(self._path(key))
        return certificate if certificate is not None and dict(certificate.key) == dict(key) else None

    def why_not(self, key: Mapping[str, str]) -> str:
        """Which fields changed since the nearest certificate of the implementation; "": there is none."""
        older = [c for path in self._of(key["implementation"]) if (c := self._read(path)) is not None]
        if not older:
            return ""
        nearest = min(older, key=lambda certificate: len(changes(certificate.key, dict(key))))
        return "; ".join(changes(nearest.key, dict(key)))

    def all(self) -> list[Certificate]:
        """Every sound certificate, by implementation."""
        found = [self._read(path) for path in sorted(self.folder.glob("*.json"))]
        return [certificate for certificate in found if certificate is not None]

    def write(self, certificate: Certificate) -> None:
        """Keep a certificate: all of it or nothing."""
        body = json.dumps(dump_certificate(certificate), sort_keys=True)
        text = json.dumps({"sha256": hashlib.sha256(body.encode()).hexdigest(), "certificate": body})
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self.folder, suffix=".part")
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(name, self._path(certificate.key))
        except OSError as error:
            emit(logging.WARNING, "ledger.unwritable", folder=str(self.folder), error=str(error))

    @contextlib.contextmanager
    def lock(self, key: Mapping[str, str], timeout_s: float) -> Iterator[None]:
        """Hold a key, so that of many processes that start at once one proves and the others wait."""
        import filelock  # only a start without a certificate needs it

        path = self._path(key).with_suffix(".lock")
        held = filelock.FileLock(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            held.acquire(timeout=timeout_s)
        except (OSError, filelock.Timeout) as error:  # proving twice is better than not starting
            emit(logging.WARNING, "ledger.unlocked", path=str(path), error=str(error))
            yield
            return
        try:
            yield
        finally:
            held.release()

    def _path(self, key: Mapping[str, str]) -> Path:
        digest = hashlib.sha256(json.dumps(sorted(key.items())).encode()).hexdigest()[:24]
        return self.folder / f"{key['implementation']}-{digest}.json"

    def _of(self, id: str) -> list[Path]:
        return sorted(self.folder.glob(f"{id}-{'[0-9a-f]' * 24}.json"))

    def _read(self, path: Path) -> Certificate | None:
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            self._set_aside(path, str(error))
            return None
        try:
            outer = json.loads(text)
            body = outer["certificate"]
            if hashlib.sha256(body.encode()).hexdigest() != outer["sha256"]:
                raise ValueError("its digest does not match")
            return load_certificate(json.loads(body))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            self._set_aside(path, f"{type(error).__name__}: {error}")
            return None

    def _set_aside(self, path: Path, why: str) -> None:
        with contextlib.suppress(OSError):
            os.replace(path, path.with_suffix(".damaged"))
        emit(
            logging.WARNING,
            "ledger.damaged",
            path=str(path),
            error=why,
            kept=str(path.with_suffix(".damaged")),
        )
