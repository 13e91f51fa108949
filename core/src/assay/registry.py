"""What is offered: one pass over the plugins, each of which can only harm itself."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pluggy
import pydantic
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from assay.contract import hooks
from assay.contract.candidate import Candidate, Distribution
from assay.contract.device import DeviceDriver
from assay.contract.errors import AssayError, UnknownOperation
from assay.contract.implementation import Implementation
from assay.contract.naming import near, selects
from assay.contract.operation import Operation
from assay.contract.reasons import ReasonCode

LIVE = Distribution("(live)", "")


@dataclass(slots=True)
class Plugin:
    """One plugin and how its discovery went. ``problems`` is empty when all went well."""

    name: str
    distribution: Distribution
    live: bool = False
    skipped: str = ""
    problems: list[str] = field(default_factory=list)
    offers: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Registry:
    """Everything that is offered, in an order that depends on names alone."""

    plugins: list[Plugin] = field(default_factory=list)
    operations: dict[str, Operation[Any, Any]] = field(default_factory=dict)
    owners: dict[str, Distribution] = field(default_factory=dict)
    offers: list[tuple[Implementation, Plugin]] = field(default_factory=list)
    drivers: dict[str, DeviceDriver] = field(default_factory=dict)
    live_kinds: set[str] = field(default_factory=set)
    """Kinds of device whose driver is a live object, which no other process can have."""

    def operation(self, name: str) -> Operation[Any, Any]:
        """An operation by its name.

        Raises:
            UnknownOperation: With the near name.
        """
        try:
            return self.operations[name]
        except KeyError:
            raise UnknownOperation(
                f"no plugin offers an operation {name!r}: {near(name, self.operations)}"
            ) from None

    def candidates(self, op: str) -> list[Candidate]:
        """A fresh candidate for every implementation of an operation; repeated ids are rejected."""
        by_id: dict[str, list[tuple[Implementation, Plugin]]] = {}
        for implementation, plugin in self.offers:
            if implementation.op == op:
                by_id.setdefault(implementation.id, []).append((implementation, plugin))
        made = []
        for id, offers in sorted(by_id.items()):
            owned = [offer for offer in offers if offer[1].distribution == self.owners.get(op)]
            winner = offers[0] if len(offers) == 1 else owned[0] if len(owned) == 1 else None
            names = " and ".join(sorted(str(plugin.distribution) for _, plugin in offers))
            for implementation, plugin in offers:
                kind = implementation.capabilities.requires.device
                live = plugin.live or self.owners.get(op) == LIVE or kind in self.live_kinds
                candidate = Candidate(implementation, plugin.distribution, live=live)
                if winner is None or implementation is not winner[0]:
                    candidate.reject(
                        ReasonCode.DUPLICATE,
                        f"{id} is offered by {names}",
                        f"uninstall one of them, or deny a plugin: [plugins] deny = [{plugin.name!r}]",
                    )
                made.append(candidate)
        return made

    def close(self) -> None:
        """Forget everything."""
        self.offers.clear()


def discover(
    *,
    autoload: bool = True,
    allow: Sequence[str] = (),
    deny: Sequence[str] = (),
    live: Sequence[Any] = (),
    builtin: Mapping[str, Any] | None = None,
) -> Registry:
    """Collect what plugins declare, plugin by plugin.

    Args:
        autoload: Whether installed entry points of the group ``assay`` are loaded.
        allow: Names or patterns of entry points or distributions to load; empty: all.
        deny: Names or patterns not to load.
        live: Plugin objects or modules given by the program.
        builtin: Assay's own plugins, by name.
    """
    registry = Registry()
    manager = pluggy.PluginManager("assay")
    manager.add_hookspecs(hooks)
    for plugin, load in [*_builtin(builtin or {}), *_installed(autoload, allow, deny), *_given(live)]:
        registry.plugins.append(plugin)
        if plugin.skipped or plugin.problems:
            continue
        try:
            module = load()
            if manager.is_registered(module):
                continue
            manager.register(module, name=f"{plugin.distribution.name}:{plugin.name}")
            _check_hook_names(manager, module)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # a plugin can only harm itself
            plugin.problems.append(f"failed to load: {_describe(error)}")
            continue
        _collect(registry, plugin, manager, module)
    for id in sorted(
        {implementation.op for implementation, _ in registry.offers} - registry.operations.keys()
    ):
        offering = {
            plugin.name: plugin for implementation, plugin in registry.offers if implementation.op == id
        }
        for plugin in offering.values():
            plugin.problems.append(
                f"offers implementations of {id!r}, which no plugin defines: {near(id, registry.operations)}"
            )
    return registry


Loader = Callable[[], Any]


def _installed(autoload: bool, allow: Sequence[str], deny: Sequence[str]) -> Iterator[tuple[Plugin, Loader]]:
    if not autoload:
        return
    points = importlib.metadata.entry_points(group=hooks.ENTRY_POINT_GROUP)
    found: dict[tuple[str, str], importlib.metadata.EntryPoint] = {}
    for point in points:  # the first on the path is the one that an import would take
        found.setdefault((canonicalize_name(_distribution(point).name), point.name), point)
    for (_, name), point in sorted(found.items()):
        distribution = _distribution(point)
        plugin = Plugin(name, distribution)
        names = (f"plugin.{name}", f"plugin.{distribution.name}")
        if allow and not any(selects(pattern, one) for pattern in allow for one in names):
            plugin.skipped = "not in [plugins] allow"
        elif any(selects(pattern, one) for pattern in deny for one in names):
            plugin.skipped = "in [plugins] deny"
        elif reason := _version_mismatch(point.dist):
            plugin.problems.append(reason)
        yield plugin, point.load


def _builtin(plugins: Mapping[str, Any]) -> Iterator[tuple[Plugin, Loader]]:
    from assay import __version__

    for name, plugin in plugins.items():
        yield Plugin(name, Distribution("assay", __version__)), partial(_itself, plugin)


def _given(live: Sequence[Any]) -> Iterator[tuple[Plugin, Loader]]:
    for plugin in live:
        name = getattr(plugin, "__name__", None) or type(plugin).__name__
        yield Plugin(str(name), LIVE, live=True), partial(_itself, plugin)


def _itself(plugin: Any) -> Any:
    return plugin


def _distribution(point: importlib.metadata.EntryPoint) -> Distribution:
    """Where an entry point came from; of a distribution without metadata nothing is known."""
    metadata = point.dist.metadata if point.dist is not None else None
    if metadata is None:
        return Distribution("(unknown)", "")
    return Distribution(metadata["Name"] or "(unknown)", metadata["Version"] or "")


def _version_mismatch(distribution: importlib.metadata.Distribution | None) -> str:
    """Why a distribution does not go with this version of Assay, before anything of it is imported."""
    from assay import __version__

    for line in (distribution.requires or ()) if distribution else ():
        try:
            requirement = Requirement(line)
        except InvalidRequirement as error:
            return f"its requirement {line!r} cannot be read: {error}"
        if canonicalize_name(requirement.name) != "assay" or (
            requirement.marker is not None and not requirement.marker.evaluate({"extra": ""})
        ):
            continue
        if not requirement.specifier.contains(__version__, prereleases=True):
            return (
                f"needs assay{requirement.specifier}, this is assay {__version__}: install a matching version"
            )
    return ""


def _check_hook_names(manager: pluggy.PluginManager, module: Any) -> None:
    known = {name for name in vars(hooks) if name.startswith("assay_")}
    for caller in manager.get_hookcallers(module) or ():
        if caller.name not in known:
            manager.unregister(module)
            raise TypeError(f"implements an unknown hook {caller.name!r}: {near(caller.name, known)}")


def _collect(registry: Registry, plugin: Plugin, manager: pluggy.PluginManager, module: Any) -> None:
    for operation in _yielded(plugin, manager, module, "assay_operations", Operation):
        if operation.name in registry.operations:
            plugin.problems.append(
                f"operation {operation.name!r} is already defined by {registry.owners[operation.name]}"
            )
            continue
        registry.operations[operation.name] = operation
        registry.owners[operation.name] = plugin.distribution
        plugin.offers.append(operation.name)
    for implementation in _yielded(plugin, manager, module, "assay_implementations", Implementation):
        registry.offers.append((implementation, plugin))
        plugin.offers.append(implementation.id)
    for driver in _yielded(plugin, manager, module, "assay_devices", DeviceDriver):
        if driver.kind in registry.drivers:
            plugin.problems.append(f"a driver of {driver.kind!r} devices is already there")
            continue
        registry.drivers[driver.kind] = driver
        if plugin.live:
            registry.live_kinds.add(driver.kind)
        plugin.offers.append(f"device {driver.kind}")


def _yielded(
    plugin: Plugin, manager: pluggy.PluginManager, module: Any, hook: str, kind: type
) -> Iterator[Any]:
    """What one plugin yields from one hook, up to where it raises; nonsense is recorded and left out."""
    for implementation in getattr(manager.hook, hook).get_hookimpls():
        if implementation.plugin is not module:
            continue
        try:
            given = implementation.function()
            if not isinstance(given, Iterable):
                raise TypeError(f"returned {given!r}, not an iterable: write `yield`, or return a list")
            for one in given:
                if isinstance(one, kind):
                    yield one
                elif isinstance(one, AssayError):  # what the plugin found wrong with a part of itself
                    plugin.problems.append(str(one))
                else:
                    plugin.problems.append(f"{hook} yielded {one!r}, which is no assay.{kind.__name__}")
        except (Exception, SystemExit) as error:  # noqa: BLE001  # a plugin can only harm itself
            plugin.problems.append(f"{hook} failed: {_describe(error)}")


def _describe(error: BaseException) -> str:
    if isinstance(error, pydantic.ValidationError):
        parts = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        return f"{error.title}: {parts}"
    return f"{type(error).__name__}: {error}"
