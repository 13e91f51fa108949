"""Manifests as implementations: what the folders of [kernels] paths and installed packages offer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from assay.contract.capabilities import Accuracy, BatchSizes, Capabilities, Requires
from assay.contract.device import Device, DeviceDriver, Plan
from assay.contract.errors import ConfigError
from assay.contract.hooks import hookimpl
from assay.contract.implementation import NAME, Implementation
from assay.devices.xrt.driver import XrtDriver
from assay.devices.xrt.manifest import Manifest, parse, read


class XrtPlugin:
    """Drives NPUs and offers the kernels of the manifests in [kernels] paths."""

    def __init__(self, paths: Iterable[Path] = ()) -> None:
        self.paths = tuple(paths)

    @hookimpl
    def assay_devices(self) -> Iterator[DeviceDriver]:
        """The driver."""
        yield XrtDriver()

    @hookimpl
    def assay_implementations(self) -> Iterator[Implementation | ConfigError]:
        """What the manifests describe."""
        yield from manifests(*self.paths)


def manifests(*paths: str | Path) -> Iterator[Implementation | ConfigError]:
    """The implementations that kernel manifests describe, for a plugin's ``assay_implementations``.

    A package that ships compiled designs yields from this, with its own folder.

    Args:
        *paths: Manifests, or folders in or below which every ``kernel.toml`` and ``*.kernel.toml`` is one.

    Yields:
        An implementation for each manifest. For one that is broken, the error, which the registry keeps as a
        problem of the plugin, and, if it can be named, an implementation that will be rejected with it.
    """
    found: dict[str, Path] = {}
    for path in map(Path, paths):
        if not path.exists():
            yield ConfigError(f"{path} does not exist: [kernels] paths names folders with kernel manifests")
        for file in _below(path):
            for offer in _offers(file):
                if isinstance(offer, Implementation) and found.setdefault(offer.id, file) != file:
                    yield ConfigError(f"{file}: {offer.id} is described by {found[offer.id]} already")
                else:
                    yield offer


def _below(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted({*path.rglob("kernel.toml"), *path.rglob("*.kernel.toml")})


def _offers(path: Path) -> Iterator[Implementation | ConfigError]:
    try:
        data = path.read_bytes()
        text = data.decode()
    except (OSError, UnicodeDecodeError) as error:
        yield ConfigError(f"{path} cannot be read: {error}")
        return
    try:
        yield implementation(read(text, path), hashlib.sha256(data).hexdigest())
    except ConfigError as error:
        yield error
        if (broken := _rejected(text, path, str(error))) is not None:
            yield broken


def _rejected(text: str, path: Path, why: str) -> Implementation | None:
    """What stands in ``explain`` for a broken manifest, so that whoever configured it by name finds out."""
    try:
        data = parse(text, path)
    except ConfigError:
        return None
    op, name = str(data.get("operation")), str(data.get("name"))
    if not NAME.match(op) or not NAME.match(name):
        return None

    def refuse(device: Device, plan: Plan) -> Any:
        raise ConfigError(why)

    needs = Requires(device=XrtDriver.kind)
    capabilities = Capabilities(form="items", accuracy=Accuracy.APPROXIMATE, requires=needs)
    return Implementation(op=op, name=name, priority=80, opener=refuse, capabilities=capabilities)


class Opener:
    """Opens a manifest's kernel; nothing is touched before."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest

    def __call__(self, device: Device, plan: Plan) -> Any:
        """The item kernel."""
        from assay.devices.xrt.kernel import XrtKernel

        return XrtKernel(self.manifest, device, plan)


def implementation(manifest: Manifest, digest: str) -> Implementation:
    """What a manifest offers.

    Args:
        digest: Of the manifest itself: a proof holds for this very text.
    """
    artifacts = {manifest.path: digest}
    for design in manifest.designs:
        artifacts[manifest.file(design.xclbin)] = design.xclbin_sha256
        artifacts[manifest.file(design.instructions)] = design.instructions_sha256
    return Implementation(
        op=manifest.operation,
        name=manifest.name,
        priority=manifest.priority,
        opener=Opener(manifest),
        description=manifest.description,
        capabilities=Capabilities(
            form="items",
            batch_sizes=BatchSizes(*(design.batch_size for design in manifest.designs)),
            item_shape=manifest.item_shape,
            params={name: frozenset(values) for name, values in manifest.params.items()},
            buffer_flags=manifest.buffer_flags,
            bytes_per_item=sum(buffer.nbytes(1) for buffer in manifest.buffers) * 2,
            accuracy=manifest.accuracy,
            writes_out=True,
            requires=Requires(
                device=XrtDriver.kind,
                driver=manifest.driver,
                generations=manifest.generations,
                artifacts=artifacts,
            ),
        ),
    )
