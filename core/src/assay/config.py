"""What is demanded: one file, with the environment and the program's own settings merged over it."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeGuard, get_args, get_origin

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from assay.contract.capabilities import Accuracy
from assay.contract.errors import ConfigError
from assay.contract.naming import near

Preset = Literal["latency", "balanced", "throughput", "single"]
Select = Literal["auto", "priority", "measured"]
ProofMode = Literal["cached", "always", "frozen", "off"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class OpConfig(_Section):
    """``[ops.NAME]``: what is demanded for one operation."""

    prefer: tuple[str, ...] = ()
    """Names or patterns of implementations to put first, in this order."""
    require: str | None = None
    """This implementation or an error."""
    deny: tuple[str, ...] = ()
    """Names or patterns that may not serve."""
    preset: Preset | None = None
    batch_size: int | None = Field(default=None, ge=1)
    accuracy: Accuracy | None = None


class ProofConfig(_Section):
    """``[proof]``: how candidates prove themselves."""

    mode: ProofMode = "cached"
    timeout_s: float = Field(default=30.0, gt=0)
    ledger: Path | None = None
    """The folder of certificates; None: the user's cache folder."""
    interval_s: float | None = Field(default=None, gt=0)
    """Prove the serving implementations again at this interval; None: never."""


class FallbackConfig(_Section):
    """``[fallback]``: what follows when a kernel fails."""

    enabled: bool = True
    failures: int = Field(default=3, ge=1)
    """Failures after which an implementation is quarantined."""
    cooldown_s: float = Field(default=30.0, gt=0)
    """The first waiting time before re-admission; it doubles with each quarantine."""
    deadline_s: float | None = Field(default=None, gt=0)
    """The longest that a kernel may take before the next one is asked; None: no limit."""
    hung_threads: int = Field(default=4, ge=1)
    """Hung calls after which an implementation is refused rather than more threads given to it."""
    shadow_rate: float = Field(default=0.0, ge=0, le=1)
    """The share of calls, and of time, that is compared with another implementation."""
    check: Literal["auto", "always", "never"] = "auto"
    """Whether outputs are searched for non-finite values: within 2 % of the kernel's time, always, never."""
    capture: Path | None = None
    """A folder that keeps failing inputs for ``assay replay``; None: none is kept."""
    capture_limit: int = Field(default=20, ge=1)


class QueueConfig(_Section):
    """``[queue]``: ``submit`` and ``map``."""

    limit: int = Field(default=1024, ge=1)
    """Requests that may wait for one operation; one more is ``Overloaded``."""


class PluginsConfig(_Section):
    """``[plugins]``: which entry points are loaded."""

    autoload: bool = True
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


class KernelsConfig(_Section):
    """``[kernels]``: folders with kernel manifests."""

    paths: tuple[Path, ...] = ()


class Config(_Section):
    """Everything that a runtime may be told. See docs/configuration.md."""

    preset: Preset = "balanced"
    accuracy: Accuracy = Accuracy.EXACT
    select: Select = "auto"
    threads: int = Field(default=0, ge=0)
    """Threads that a kernel may use; 0: the cores that this process may use."""
    memory_limit_mb: float | None = Field(default=None, gt=0)
    """The most device memory that one plan may hold."""
    ops: Mapping[str, OpConfig] = Field(default_factory=dict)
    proof: ProofConfig = Field(default_factory=ProofConfig)
    fallback: FallbackConfig = Field(default_factory=FallbackConfig)
    queue: QueueConfig = Field(default_factory=QueueConfig)
    plugins: PluginsConfig = Field(default_factory=PluginsConfig)
    devices: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    kernels: KernelsConfig = Field(default_factory=KernelsConfig)

    def op(self, name: str) -> OpConfig:
        """The demand for one operation, with the top level's values filled in."""
        one = self.ops.get(name, OpConfig())
        return one.model_copy(
            update={"preset": one.preset or self.preset, "accuracy": one.accuracy or self.accuracy}
        )


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration and where each given value came from ("ops.mel.prefer" -> "assay.toml:12")."""

    config: Config
    sources: Mapping[str, str] = field(default_factory=dict)
    path: Path | None = None


def load(
    given: Config | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
) -> Loaded:
    """Read the configuration that applies.

    A ``Config`` is taken as it is. A path is the file to read; without one it is ``ASSAY_CONFIG``,
    else the user's own file if there is one. The environment goes over the file and a mapping over both.

    Raises:
        ConfigError: A value that cannot be, an unknown key, or a file that is named and missing.
    """
    if isinstance(given, Config):
        return Loaded(given)
    keywords: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
    path = _path(given if isinstance(given, (str, os.PathLike)) else None, environ)
    text = _read(path) if path else ""
    layers: list[tuple[str, dict[str, Any]]] = []
    if path:
        layers.append((str(path), _parse(text, path)))
    for variable, value in _environment(environ):
        layers.append((variable, value))
    layers.append(("the program", dict(keywords)))
    merged: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for source, layer in layers:
        _merge(merged, layer)
        for key in _leaves(layer):
            sources[key] = f"{source}:{line_of(text, key)}" if path and source == str(path) else source
    try:
        return Loaded(Config.model_validate(merged), sources, path)
    except ValidationError as error:
        raise ConfigError(_explain(error, sources)) from None


def _path(given: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> Path | None:
    named = (
        Path(given)
        if given is not None
        else Path(environ["ASSAY_CONFIG"])
        if environ.get("ASSAY_CONFIG")
        else None
    )
    if named is not None:
        if not named.is_file():
            source = "" if given is not None else " (named by ASSAY_CONFIG)"
            raise ConfigError(f"configuration file {named}{source} does not exist")
        return named
    usual = Path(platformdirs.user_config_dir("assay", appauthor=False)) / "assay.toml"
    return usual if usual.is_file() else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration file {path} cannot be read: {error}") from error


def _parse(text: str, path: Path) -> dict[str, Any]:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None
    base = path.resolve().parent  # paths in a file are relative to that file
    for table, key in (("proof", "ledger"), ("fallback", "capture")):
        given = data.get(table)
        if isinstance(given, dict) and isinstance(given.get(key), str):
            given[key] = base / Path(given[key]).expanduser()
    kernels = data.get("kernels")
    if isinstance(kernels, dict) and isinstance(kernels.get("paths"), list):
        kernels["paths"] = [base / Path(str(one)).expanduser() for one in kernels["paths"]]
    return data


def _environment(environ: Mapping[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """``ASSAY_OPS__MEL__PREFER=a,b`` as {"ops": {"mel": {"prefer": ["a", "b"]}}}."""
    for variable in sorted(environ):
        if not variable.startswith("ASSAY_") or variable == "ASSAY_CONFIG":
            continue
        keys = variable.removeprefix("ASSAY_").lower().split("__")
        shape = _shape(Config, keys)
        if shape is None:
            known = [f"ASSAY_{name.upper()}" for name in Config.model_fields]
            near_name = near(variable.split("__")[0], [*known, "ASSAY_CONFIG"])
            if keys[0] in Config.model_fields:
                near_name = f"{keys[0]!r} has no such key"
            raise ConfigError(f"unknown environment variable {variable}: {near_name}")
        value: Any = environ[variable]
        if shape == "list":
            value = [part.strip() for part in value.split(",") if part.strip()]
        for key in reversed(keys):
            value = {key: value}
        yield variable, value


def _shape(model: type[BaseModel], keys: list[str]) -> str | None:
    """Whether a dotted key is a "list" or a "value" of the model; None: there is no such key."""
    if not keys or keys[0] not in model.model_fields:
        return None
    annotation = model.model_fields[keys[0]].annotation
    if _is_mapping(annotation):
        inner = get_args(annotation)[1]
        if _is_section(inner):
            return _shape(inner, keys[2:]) if len(keys) > 2 else None
        return "value" if len(keys) == 3 else None
    if _is_section(annotation):
        return _shape(annotation, keys[1:])
    if len(keys) > 1:
        return None
    return "list" if get_origin(annotation) is tuple else "value"


def _is_mapping(annotation: Any) -> bool:
    origin = get_origin(annotation)
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _is_section(annotation: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _merge(into: dict[str, Any], layer: Mapping[str, Any]) -> None:
    for key, value in layer.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        elif isinstance(value, Mapping):
            into[key] = {}
            _merge(into[key], value)
        else:
            into[key] = value


def _leaves(layer: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in layer.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def line_of(text: str, key: str) -> int:
    """The line of a file on which a dotted key is set (tomllib does not say)."""
    section: list[str] = []
    best = 1
    for number, line in enumerate(text.splitlines(), start=1):
        bare = line.split("#", 1)[0].strip()
        if bare.startswith("["):
            section = [part.strip().strip("\"'") for part in bare.strip("[]").split(".")]
            if key.startswith(".".join(section)):
                best = number
        elif "=" in bare:
            name = [part.strip().strip("\"'") for part in bare.split("=", 1)[0].split(".")]
            full = ".".join([*section, *name])
            if key == full or key.startswith(f"{full}."):
                return number
    return best


def _explain(error: ValidationError, sources: Mapping[str, str]) -> str:
    lines = []
    for one in error.errors():
        path = [str(part) for part in one["loc"]]
        key = ".".join(path)
        where = next(
            (source for name, source in sources.items() if name == key or name.startswith(f"{key}.")), ""
        )
        if not where:
            where = next(
                (source for name, source in sources.items() if key.startswith(f"{name}.")), "the program"
            )
        if one["type"] == "extra_forbidden":
            lines.append(f"{where}: unknown key {key!r}: {near(path[-1], _keys(Config, path[:-1]))}")
        else:
            lines.append(f"{where}: {key} = {one['input']!r}: {one['msg']}")
    return "\n".join(lines)


def _keys(model: type[BaseModel], path: Iterable[str]) -> Iterable[str]:
    """The known keys of the section at a path."""
    for key in path:
        field_info = model.model_fields.get(key)
        if field_info is None:  # a name inside a mapping, such as the "mel" of ops.mel
            continue
        annotation = field_info.annotation
        inner = get_args(annotation)[1] if _is_mapping(annotation) else annotation
        if not _is_section(inner):
            return ()
        model = inner
    return model.model_fields
