"""Manifests as implementations: what the folders of [kernels] paths and installed packages offer."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from assay.contract.capabilities import BatchSizes, Capabilities, Requires
from assay.contract.device import Device, DeviceDriver, Plan
from assay.contract.errors import ConfigError
from assay.contract.hooks import hookimpl
from assay.contract.implementation import Implementation
from assay.contract.log import emit
from assay.devices.xrt.driver import XrtDriver
from assay.devices.xrt.manifest import Manifest, find, read


class XrtPlugin:
    """Drives NPUs and offers the kernels of manifests. ``broken`` maps files to what is wrong."""

    def __init__(self, paths: Iterable[Path] = ()) -> None:
        self.paths = tuple(paths)
        self.broken: dict[Path, str] = {}

    @hookimpl
    def assay_devices(self) -> Iterator[DeviceDriver]:
        """The driver."""
        yield XrtDriver()

    @hookimpl
    def assay_implementations(self) -> Iterator[Implementation]:
        """One implementation per manifest; a broken manifest costs only itself."""
        for path in find(self.paths):
            try:
                yield implementation(read(path))
            except (ConfigError, ValueError) as error:
                self.broken[path] = str(error)
                emit(logging.WARNING, "plugin.failed", plugin="xrt", manifest=str(path), error=str(error))


class Opener:
    """Opens a manifest's kernel; nothing is touched before."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest

    def __call__(self, device: Device, plan: Plan) -> Any:
        """The item kernel."""
        from assay.devices.xrt.kernel import XrtKernel

        return XrtKernel(self.manifest, device, plan)


def implementation(manifest: Manifest) -> Implementation:
    """What a manifest offers."""
    artifacts = {}
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
                device="xrt",
                driver=manifest.driver,
                generations=manifest.generations,
                artifacts=artifacts,
            ),
        ),
    )
