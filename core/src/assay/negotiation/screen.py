"""The funnel's cheap tests and the terms: nothing of a candidate is imported here."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from assay.config import OpConfig
from assay.contract.candidate import Candidate
from assay.contract.capabilities import Accuracy, BufferFlag
from assay.contract.device import Device, Plan
from assay.contract.errors import BufferRefused, DeviceUnavailable
from assay.contract.log import emit
from assay.contract.naming import selects
from assay.contract.operation import Operation
from assay.contract.reasons import ReasonCode
from assay.devices.inventory import Inventory
from assay.negotiation.installed import Installed

LFS = b"version https://git-lfs."
"""How the pointers begin that Git LFS leaves in the place of files."""


@dataclass(slots=True)
class Terms:
    """What one operation's candidates are screened against."""

    op: Operation[Any, Any]
    demand: OpConfig
    inventory: Inventory
    threads: int
    memory_limit: float | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    installed: Installed = field(default_factory=Installed)
    packages: dict[str, tuple[ReasonCode, str] | None] = field(default_factory=dict)
    """What was found out about packages, so that a thousand candidates ask once."""

    @property
    def batch_size(self) -> int:
        """The demanded batch size: as given, else what the preset means."""
        return self.demand.batch_size or self.op.presets[self.demand.preset or "balanced"]

    def source(self, key: str) -> str:
        """Where a key of this operation's demand came from."""
        return self.sources.get(f"ops.{self.op.name}.{key}", "the program")


def screen(candidate: Candidate, terms: Terms) -> None:
    """Reject a candidate with a reason, or give it its plan."""
    if candidate.rejected:
        return
    for test in (_config, _declaration, _device, _packages, _artifacts, _plan):
        test(candidate, terms)
        if candidate.rejected:
            return


def _config(candidate: Candidate, terms: Terms) -> None:
    demand, id = terms.demand, candidate.id
    for pattern in demand.deny:
        if selects(pattern, id):
            candidate.reject(
                ReasonCode.DENIED,
                f"denied by {pattern!r} in ops.{terms.op.name}.deny ({terms.source('deny')})",
                f"take {pattern!r} out of deny",
            )
            return
    if demand.require is not None and not selects(demand.require, id):
        candidate.reject(
            ReasonCode.NOT_REQUIRED,
            f"ops.{terms.op.name}.require asks for {demand.require!r} ({terms.source('require')})",
            "drop require, or use prefer, which keeps the others on standby",
        )
        return
    accuracy = candidate.implementation.capabilities.accuracy
    if accuracy is Accuracy.APPROXIMATE and demand.accuracy is not Accuracy.APPROXIMATE:
        candidate.reject(
            ReasonCode.ACCURACY_NOT_ADMITTED,
            "it is approximate, and accuracy is 'exact'",
            f'set accuracy = "approximate" in [ops.{terms.op.name}]',
        )


def _declaration(candidate: Candidate, terms: Terms) -> None:
    capabilities = candidate.implementation.capabilities
    wrong = ""
    if capabilities.form == "items" and terms.op.items is None:
        wrong = f"form='items', but {terms.op.name} takes whole kernels only"
    elif capabilities.item_shape is not None and not (terms.op.items and terms.op.items.chooses_shape):
        wrong = f"item_shape is given, but {terms.op.name} fixes the shape of its items"
    elif unknown := sorted(set(capabilities.params) - set(terms.op.defaults)):
        has = ", ".join(terms.op.defaults) or "none"
        wrong = f"params names {', '.join(unknown)}; the parameters of {terms.op.name} are: {has}"
    elif unknown := sorted(capabilities.dtypes - terms.op.inputs[0].dtypes):
        has = ", ".join(sorted(terms.op.inputs[0].dtypes))
        wrong = f"dtypes names {', '.join(unknown)}; {terms.op.name} takes {has}"
    if wrong:
        candidate.reject(ReasonCode.INVALID_DECLARATION, wrong, "correct the plugin's declaration")


def _device(candidate: Candidate, terms: Terms) -> None:
    requires = candidate.implementation.capabilities.requires
    try:
        device = terms.inventory.get(requires.device)
    except DeviceUnavailable as error:
        candidate.reject(ReasonCode(error.code), str(error), error.remedy)
        return
    if requires.generations and device.generation not in requires.generations:
        built = ", ".join(sorted(requires.generations))
        candidate.reject(
            ReasonCode.DEVICE_GENERATION,
            f"built for {built}; {device.name} is {device.generation or 'of an unknown generation'}",
            f"install a build for {device.generation or 'this device'}",
        )
    elif missing := sorted(requires.features - device.features):
        candidate.reject(
            ReasonCode.CPU_FEATURE_MISSING,
            f"{device.name} lacks {', '.join(missing)}",
            "no change to this machine adds it: run on a CPU that has it",
        )
    elif requires.driver and not SpecifierSet(requires.driver).contains(
        device.driver or "0", prereleases=True
    ):
        candidate.reject(
            ReasonCode.DRIVER_VERSION,
            f"needs a driver {requires.driver}, found {device.driver or 'none'}",
            f"install a driver {requires.driver}",
        )


def _packages(candidate: Candidate, terms: Terms) -> None:
    for text in candidate.implementation.capabilities.requires.packages:
        if text not in terms.packages:
            terms.packages[text] = _missing(Requirement(text), terms.installed)
        if reason := terms.packages[text]:
            candidate.reject(reason[0], reason[1], f"pip install '{text}'")
            return


def _missing(requirement: Requirement, installed: Installed) -> tuple[ReasonCode, str] | None:
    if requirement.marker is not None and not requirement.marker.evaluate():
        return None
    version = installed.version(requirement.name)
    if version is None:
        return ReasonCode.PACKAGE_MISSING, f"the Python package {requirement.name} is not installed"
    if not requirement.specifier.contains(version, prereleases=True):
        return (
            ReasonCode.PACKAGE_VERSION,
            f"needs {requirement.name}{requirement.specifier}, found {version}",
        )
    return None


def _artifacts(candidate: Candidate, terms: Terms) -> None:
    for path, digest in candidate.implementation.capabilities.requires.artifacts.items():
        if not path.is_file():
            candidate.reject(
                ReasonCode.ARTIFACT_MISSING, f"{path} is missing", f"put the file with sha256 {digest} there"
            )
        elif (found := sha256(path)) != digest.lower():
            pointer = path.read_bytes()[: len(LFS)] == LFS
            candidate.reject(
                ReasonCode.ARTIFACT_CHANGED,
                f"{path} is a Git LFS pointer, not the file itself"
                if pointer
                else f"{path} ({path.stat().st_size} bytes) has sha256 {found}, declared is {digest}",
                "git lfs pull" if pointer else "restore the file, or declare the new hash and prove it",
            )
        else:
            continue
        return


def sha256(path: Path) -> str:
    """The digest of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _plan(candidate: Candidate, terms: Terms) -> None:
    capabilities = candidate.implementation.capabilities
    device = terms.inventory.get(capabilities.requires.device)
    batch = capabilities.batch_sizes.choose(terms.batch_size) if capabilities.form == "items" else 1
    memory = (capabilities.bytes_per_item or 0) * batch
    if terms.memory_limit is not None and memory > terms.memory_limit:
        candidate.reject(
            ReasonCode.MEMORY_LIMIT,
            f"a batch of {batch} holds {memory / 1e6:.1f} MB, the limit is {terms.memory_limit / 1e6:.1f} MB",
            "raise memory_limit_mb or lower batch_size",
        )
        return
    flag, refused = None, []
    for flag in capabilities.buffer_flags:
        try:
            terms.inventory.driver(device.kind).allocate(device, max(memory, 4096), flag)
            break
        except BufferRefused as error:
            refused.append((flag, str(error)))
            emit(
                logging.WARNING,
                "buffer.flag_refused",
                candidate=candidate.id,
                flag=flag.value,
                reason=str(error),
            )
    else:
        if capabilities.buffer_flags:
            _reject_flags(candidate, device, refused)
            return
    candidate.plan = Plan(
        device=device,
        batch_size=batch,
        accuracy=capabilities.accuracy,
        threads=terms.threads,
        buffer_flag=flag,
        refused=tuple(refused),
        memory=memory,
    )


def _reject_flags(candidate: Candidate, device: Device, refused: list[tuple[BufferFlag, str]]) -> None:
    said = "; ".join(f"{flag.value}: {why}" for flag, why in refused)
    candidate.reject(
        ReasonCode.BUFFER_REFUSED,
        f"{device.name} refused every buffer flag: {said}",
        "declare another of " + ", ".join(flag.value for flag in BufferFlag),
    )
