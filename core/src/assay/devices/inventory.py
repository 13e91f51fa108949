"""The devices of one runtime: each kind is looked for once, when the first candidate asks for it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from assay.contract.device import Device, DeviceDriver
from assay.contract.errors import DeviceUnavailable
from assay.contract.log import emit
from assay.contract.reasons import ReasonCode
from assay.devices.cpu import CpuDriver


class Inventory:
    """What is there. Absences are remembered with their reason and remedy."""

    def __init__(
        self, drivers: Mapping[str, DeviceDriver], settings: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        self.drivers: dict[str, DeviceDriver] = {CpuDriver.kind: CpuDriver(), **drivers}
        self.settings = settings or {}
        self.found: dict[str, Device] = {}
        self.absent: dict[str, DeviceUnavailable] = {}

    def get(self, kind: str) -> Device:
        """The device of a kind.

        Raises:
            DeviceUnavailable: The reason, the same at every call.
        """
        if kind in self.absent:
            raise self.absent[kind]
        if kind not in self.found:
            try:
                self.found[kind] = self._find(kind)
                device = self.found[kind]
                emit(logging.INFO, "device.found", device=device.id, name=device.name, driver=device.driver)
            except DeviceUnavailable as error:
                self.absent[kind] = error
                emit(logging.INFO, "device.absent", kind=kind, code=error.code, reason=str(error))
                raise
        return self.found[kind]

    def driver(self, kind: str) -> DeviceDriver:
        """The driver of a kind that was found."""
        return self.drivers[kind]

    def close(self) -> None:
        """Let every driver go."""
        for kind, device in self.found.items():
            self.drivers[kind].close(device)
        self.found.clear()

    def _find(self, kind: str) -> Device:
        if kind not in self.drivers:
            raise DeviceUnavailable(
                ReasonCode.DEVICE_ABSENT,
                f"no plugin knows devices of kind {kind!r} (known: {', '.join(sorted(self.drivers))})",
                f"install the plugin that drives {kind!r} devices",
            )
        try:
            return self.drivers[kind].find(self.settings.get(kind, {}))
        except DeviceUnavailable:
            raise
        except Exception as error:  # a driver can only harm its own kind
            raise DeviceUnavailable(
                ReasonCode.DEVICE_ABSENT,
                f"looking for a {kind} device raised {type(error).__name__}: {error}",
                "see assay doctor",
            ) from error
