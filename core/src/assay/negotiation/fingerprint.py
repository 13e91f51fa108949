"""Everything that could change the result of a proof, as named fields."""

from __future__ import annotations

import functools
import platform
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from sysconfig import get_platform
from typing import Any

from packaging.requirements import Requirement

from assay.contract.candidate import Candidate
from assay.contract.operation import Operation
from assay.negotiation.installed import Installed, digest

DIGEST = re.compile(r"\b([0-9a-f]{8})[0-9a-f]{8,}\b")


def fingerprint(
    op: Operation[Any, Any], owner: str, candidate: Candidate, installed: Installed
) -> dict[str, str]:
    """The key of a certificate. Two that are equal name the same proof."""
    implementation, plan = candidate.implementation, candidate.plan
    assert plan is not None
    requires = implementation.capabilities.requires
    parts = (op.reference, op.probes, op.tolerance, op.standard, op.infer, op.items and op.items.split)
    own = (implementation.kernel, implementation.opener, implementation.capabilities.shapes)

    def code(of: Iterable[Any]) -> str:
        found = [installed.code(package) for package in sorted({_package(one) for one in of if one})]
        return found[0] if len(found) == 1 else digest(" ".join(found))

    fields = {
        "implementation": implementation.id,
        "operation": f"{op.name} {op.version}, {owner}",
        "operation module": code(parts),
        "proof": installed.folder(Path(__file__).parent),
        "declaration": digest(_declaration(candidate)),
        "distribution": f"{candidate.distribution.name} {installed.digest(candidate.distribution.name)}",
        "module": code(own),
        "numpy": installed.digest("numpy"),
        "python": " ".join([platform.python_implementation(), platform.python_version(), get_platform()]),
        "batch size": str(plan.batch_size),
        "buffer flag": str(plan.buffer_flag),
        "accuracy": plan.accuracy.value,
        "threads": str(plan.threads),
        "device": f"{plan.device.id} {plan.device.name} {plan.device.generation}",
        "driver": f"{plan.device.driver} {plan.device.firmware}".strip(),
        "features": digest(" ".join(sorted(plan.device.features))),
    }
    for text in requires.packages:
        name = Requirement(text).name
        fields[f"package {name}"] = installed.digest(name)
    for path, sha256 in requires.artifacts.items():
        fields[f"artifact {path.name}"] = sha256.lower()
    return fields


def _package(code: Any) -> str:
    """The top-level package or module in which a callable, or what "pkg.mod:fn" names, is defined."""
    while isinstance(code, functools.partial):
        code = code.func
    module = code.partition(":")[0] if isinstance(code, str) else getattr(code, "__module__", None)
    return (module or type(code).__module__).split(".")[0]


def _declaration(candidate: Candidate) -> str:
    capabilities = candidate.implementation.capabilities
    fields = capabilities.model_dump(exclude={"requires", "shapes", "params", "dtypes"})
    params = {name: sorted(map(repr, values)) for name, values in sorted(capabilities.params.items())}
    shapes = capabilities.shapes if isinstance(capabilities.shapes, str | None) else "(callable)"
    implementation = candidate.implementation
    target = [str(one) for one in (implementation.kernel, implementation.opener) if isinstance(one, str)]
    return repr((sorted(fields.items(), key=str), params, sorted(capabilities.dtypes), shapes, target))


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Which fields differ between two fingerprints, in words; eight digits of a digest tell enough."""
    names = [*now, *(name for name in before if name not in now)]
    return [
        DIGEST.sub(r"\1", f"{name} was {before.get(name, 'absent')}, is {now.get(name, 'absent')}")
        for name in names
        if before.get(name) != now.get(name)
    ]
