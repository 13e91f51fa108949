"""What is installed, asked as cheaply as a start can afford: versions and digests, nothing is imported."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import re
from dataclasses import dataclass, field
from pathlib import Path

VERSION = re.compile(r"^Version:\s*(\S+)", re.MULTILINE)


@dataclass(slots=True)
class Installed:
    """The distributions and packages at one start. What was asked once is remembered for as long."""

    _found: dict[str, tuple[str, str] | None] = field(default_factory=dict)
    _code: dict[str, str] = field(default_factory=dict)

    def version(self, distribution: str) -> str | None:
        """The version of a distribution, or None."""
        found = self._distribution(distribution)
        return None if found is None else found[0]

    def digest(self, distribution: str) -> str:
        """The version of a distribution and a digest of its RECORD."""
        found = self._distribution(distribution)
        return "missing" if found is None else " ".join(found)

    def code(self, package: str) -> str:
        """A digest of every file of a top-level package or module."""
        if package not in self._code:
            self._code[package] = _tree_digest(_places(package))
        return self._code[package]

    def folder(self, path: Path) -> str:
        """A digest of every file in a folder."""
        if str(path) not in self._code:
            self._code[str(path)] = _tree_digest([path])
        return self._code[str(path)]

    def _distribution(self, name: str) -> tuple[str, str] | None:
        if name not in self._found:
            try:
                distribution = importlib.metadata.distribution(name)
            except importlib.metadata.PackageNotFoundError:
                self._found[name] = None
            else:
                # Parsing all of the metadata for the one line would take a hundred times as long.
                told = VERSION.search(distribution.read_text("METADATA") or "")
                version = told.group(1) if told else distribution.version
                self._found[name] = version, digest(distribution.read_text("RECORD") or "")
        return self._found[name]


def digest(text: str) -> str:
    """A short digest."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _tree_digest(roots: list[Path]) -> str:
    """A digest of the names and contents of files and of all files in folders, but for Python's caches."""
    if not roots:
        return "missing"
    result = hashlib.blake2b(digest_size=16)
    for root in roots:
        for file in [root] if root.is_file() else sorted(root.rglob("*")):
            if file.suffix != ".pyc" and file.is_file():
                result.update(f"{file.relative_to(root.parent).as_posix()}\0".encode())
                result.update(file.read_bytes())
    return result.hexdigest()


def _places(package: str) -> list[Path]:
    """Where a top-level package or module lies; a namespace package lies in several places."""
    try:
        spec = importlib.util.find_spec(package) if package else None
    except (ImportError, ValueError):  # __main__ has none
        spec = None
    if spec is None:
        return []
    return [Path(place) for place in spec.submodule_search_locations or [spec.origin or ""] if place]
