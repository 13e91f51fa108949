"""``assay doctor``: what is here, what is missing, and how to get it."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from packaging.requirements import Requirement

from assay.cli import DONE, WRONG
from assay.cli.options import ConfigFile, Json
from assay.cli.output import console, emit, size, table
from assay.cli.plugins import describe
from assay.cli.remedies import BROKEN
from assay.cli.session import opened
from assay.config import Config
from assay.contract.candidate import Verdict
from assay.contract.errors import ConfigError, DeviceUnavailable
from assay.contract.reasons import ReasonCode
from assay.runtime import Runtime

NATIVE = "assay-kernels"
LIBRARIES = ("assay", "numpy", "pluggy", "pydantic", "structlog", "archspec")


class Health(StrEnum):
    """How a finding is."""

    GOOD = "ok"
    NOTE = "note"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at; a remedy where there is one."""

    about: str
    health: Health
    what: str
    remedy: str = ""


def command(config: ConfigFile = None, json: Json = False) -> int:
    """Find what is wrong, and how to mend it.

    Examines versions, configuration, ledger, devices, plugins, packages, native kernels and operations;
    exit 1 if anything is wrong.
    """
    findings = [*_versions()]
    try:
        with opened(config) as runtime:
            findings += _examine(runtime)
    except ConfigError as error:
        findings.append(
            Finding("configuration", Health.WRONG, str(error), "correct it; assay config --check FILE")
        )
        with opened(Config()) as runtime:
            findings += _examine(runtime)
    if json:
        emit({"findings": [asdict(finding) for finding in findings]})
    else:
        _show(findings)
    return WRONG if any(finding.health is Health.WRONG for finding in findings) else DONE


def _examine(runtime: Runtime) -> Iterator[Finding]:
    yield from _config(runtime)
    yield from _ledger(runtime)
    yield from _devices(runtime)
    yield from _plugins(runtime)
    yield from _packages(runtime)
    yield from _native()
    yield from _operations(runtime)


def _versions() -> Iterator[Finding]:
    found = [f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES]
    yield Finding("versions", Health.GOOD, f"Python {platform.python_version()}, {', '.join(found)}")
    yield Finding("system", Health.GOOD, f"{platform.system()} {platform.release()}, {platform.machine()}")


def _config(runtime: Runtime) -> Iterator[Finding]:
    path = runtime.loaded.path
    yield Finding("configuration", Health.GOOD, str(path) if path else "no file: defaults")
    if runtime.config.proof.mode == "off":
        yield Finding(
            "proof",
            Health.WRONG,
            "proof.mode is 'off': kernels serve unproved",
            'set [proof] mode = "cached"',
        )


def _ledger(runtime: Runtime) -> Iterator[Finding]:
    folder = runtime.ledger.folder
    damaged = len(list(folder.glob("*.damaged")))
    if not _writable(folder):
        yield Finding(
            "ledger",
            Health.WRONG,
            f"{folder} cannot be written: every start proves everything anew",
            "mend its permissions, or set [proof] ledger to a folder of your own",
        )
        return
    yield Finding("ledger", Health.GOOD, f"{len(runtime.ledger.all())} certificate(s) in {folder}")
    if damaged:
        yield Finding(
            "ledger", Health.NOTE, f"{damaged} damaged file(s) set aside", f"delete {folder}/*.damaged"
        )


def _writable(folder: Path) -> bool:
    """Tried, since permissions alone do not say it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _devices(runtime: Runtime) -> Iterator[Finding]:
    for kind in sorted(runtime.inventory.drivers):
        try:
            device = runtime.inventory.get(kind)
        except DeviceUnavailable as error:
            absent = error.code == ReasonCode.DEVICE_ABSENT
            yield Finding(f"device {kind}", Health.NOTE if absent else Health.WRONG, str(error), error.remedy)
            continue
        facts = [device.name, device.generation, f"driver {device.driver}" if device.driver else ""]
        facts.append(f"firmware {device.firmware}" if device.firmware else "")
        if device.cores:
            facts.append(f"{device.cores} core(s)")
        if device.memory:
            facts.append(size(device.memory))
        yield Finding(f"device {device.id}", Health.GOOD, ", ".join(fact for fact in facts if fact))


def _plugins(runtime: Runtime) -> Iterator[Finding]:
    for plugin in map(describe, runtime.registry.plugins):
        about = f"plugin {plugin['plugin']}"
        if plugin["skipped"]:
            yield Finding(about, Health.NOTE, f"{plugin['distribution']}: skipped, {plugin['skipped']}")
        elif not plugin["problems"]:
            yield Finding(about, Health.GOOD, f"{plugin['distribution']}: {len(plugin['offers'])} offer(s)")
        for problem in plugin["problems"]:
            remedy = f'mend or uninstall it, or set [plugins] deny = ["{plugin["plugin"]}"]'
            yield Finding(about, Health.WRONG, f"{plugin['distribution']}: {problem}", remedy)
    if not runtime.registry.operations:
        yield Finding(
            "plugins", Health.WRONG, "no plugin offers an operation", "pip install assay-mel, for example"
        )


def _packages(runtime: Runtime) -> Iterator[Finding]:
    """What implementations require, and who would be rejected for the lack of it."""
    wanted: dict[str, list[str]] = {}
    for implementation, _ in runtime.registry.offers:
        for text in implementation.capabilities.requires.packages:
            wanted.setdefault(text, []).append(implementation.id)
    for text, ids in sorted(wanted.items()):
        requirement = Requirement(text)
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            version = ""
        fits = bool(version) and requirement.specifier.contains(version, prereleases=True)
        yield Finding(
            f"package {requirement.name}",
            Health.GOOD if fits else Health.NOTE,
            f"{version or 'not installed'}, for {', '.join(sorted(ids))}",
            "" if fits else f"pip install '{text}'",
        )


def _native() -> Iterator[Finding]:
    try:
        yield Finding("native kernels", Health.GOOD, f"{NATIVE} {importlib.metadata.version(NATIVE)}")
    except importlib.metadata.PackageNotFoundError:
        compiler = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
        first = "" if compiler else "install a C++ compiler (Debian, Ubuntu: apt install g++), then "
        yield Finding(
            "native kernels", Health.NOTE, f"{NATIVE} is not installed", f"{first}pip install {NATIVE}"
        )


def _operations(runtime: Runtime) -> Iterator[Finding]:
    for name in sorted(runtime.registry.operations):
        decision = runtime.explain(name)
        health = Health.GOOD if decision.chosen else Health.WRONG
        serving = sum(c.verdict is not Verdict.REJECTED for c in decision.candidates)
        what = (
            f"{decision.chosen} serves, {serving - 1} on standby"
            if decision.chosen
            else "nothing can serve it"
        )
        yield Finding(f"operation {name}", health, what, "" if decision.chosen else f"assay explain {name}")
        for candidate in decision.candidates:
            if candidate.rejected and candidate.reasons[-1].code in BROKEN:
                reason = candidate.reasons[-1]
                yield Finding(
                    candidate.id, Health.WRONG, f"{reason.code.value}: {reason.message}", reason.remedy
                )


def _show(findings: list[Finding]) -> None:
    from rich.text import Text

    styles = {Health.GOOD: "green", Health.NOTE: "yellow", Health.WRONG: "bold red"}
    shown = table("", "About", "Found", whole=("", "About"))
    for finding in findings:
        text = Text(finding.what)
        if finding.remedy:
            text.append(f"\n-> {finding.remedy}", "bold" if finding.health is Health.WRONG else "")
        shown.add_row(Text(finding.health.value, styles[finding.health]), finding.about, text)
    out = console()
    out.print(shown)
    wrong = sum(finding.health is Health.WRONG for finding in findings)
    out.print(f"{wrong} thing(s) to mend." if wrong else "Nothing is wrong.")
