"""Everything that could change the result of a proof, as named fields."""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.metadata
import importlib.util
import platform
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from packaging.requirements import Requirement

from assay.contract.candidate import Candidate
from assay.contract.operation import Operation
from assay.negotiation.proof import REVISION


def fingerprint(op: Operation[Any, Any], owner: str, candidate: Candidate) -> dict[str, str]:
    """The key of a certificate. Two that are equal name the same proof."""
    implementation, plan = candidate.implementation, candidate.plan
    assert plan is not None
    requires = implementation.capabilities.requires
    target = implementation.kernel or implementation.opener
    fields = {
        "implementation": implementation.id,
        "operation": f"{op.name} {op.version}, {owner}",
        "proof": REVISION,
        "declaration": _digest(_declaration(candidate)),
        "distribution": str(candidate.distribution),
        "module": code_digest(target if isinstance(target, str) else f"{target.__module__}:"),
        "operation module": code_digest(f"{op.reference.__module__}:reference"),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "batch size": str(plan.batch_size),
        "buffer flag": str(plan.buffer_flag),
        "accuracy": plan.accuracy.value,
        "threads": str(plan.threads),
        "device": f"{plan.device.id} {plan.device.name} {plan.device.generation}",
        "driver": f"{plan.device.driver} {plan.device.firmware}".strip(),
        "features": _digest(" ".join(sorted(plan.device.features))),
    }
    for text in requires.packages:
        name = Requirement(text).name
        fields[f"package {name}"] = package_digest(name)
    for path, digest in requires.artifacts.items():
        fields[f"artifact {path.name}"] = digest.lower()
    return fields


def _declaration(candidate: Candidate) -> str:
    capabilities = candidate.implementation.capabilities
    fields = capabilities.model_dump(exclude={"requires", "shapes", "params", "dtypes"})
    params = {name: sorted(map(repr, values)) for name, values in sorted(capabilities.params.items())}
    shapes = capabilities.shapes if isinstance(capabilities.shapes, str | None) else "(callable)"
    return repr((sorted(fields.items(), key=str), params, sorted(capabilities.dtypes), shapes))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def package_digest(name: str) -> str:
    """The version of an installed distribution and a digest of its RECORD."""
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"
    return f"{distribution.version} {_digest(distribution.read_text('RECORD') or '')}"


def code_digest(target: str) -> str:
    """A digest of every file of the package that "pkg.mod:fn" is in, found without importing it."""
    root = _location(target.partition(":")[0].split(".")[0])
    if root is None:
        return "missing"
    return _tree_digest(root, _stamp(root))


def _location(package: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:  # __main__ has none
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(spec.origin) if spec.origin else None


def _files(root: Path) -> list[Path]:
    if root.is_file():
        return [root]
    suffixes = (
        *importlib.machinery.all_suffixes(),
        ".toml",
        ".json",
        ".npz",
        ".npy",
        ".so",
        ".xclbin",
        ".bin",
    )
    return sorted(p for p in root.rglob("*") if p.suffix in suffixes and "__pycache__" not in p.parts)


def _stamp(root: Path) -> tuple[tuple[str, int, int], ...]:
    """What would have to stay the same for a digest of a moment ago to hold within this process."""
    return tuple((str(p), s.st_size, s.st_mtime_ns) for p in _files(root) if (s := p.stat()))


@cache
def _tree_digest(root: Path, stamp: tuple[tuple[str, int, int], ...]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, _, _ in stamp:
        digest.update(Path(name).relative_to(root.parent).as_posix().encode() + b"\0")
        digest.update(Path(name).read_bytes())
    return digest.hexdigest()


def changes(before: dict[str, str] | Any, now: dict[str, str]) -> list[str]:
    """Which fields differ between two fingerprints, in words."""
    names = [*now, *(name for name in before if name not in now)]
    return [
        f"{name} was {before.get(name, 'absent')}, is {now.get(name, 'absent')}"
        for name in names
        if before.get(name) != now.get(name)
    ]
