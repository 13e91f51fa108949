"""The CPU: its features, the cores that this process may use, its memory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from assay.contract.capabilities import BufferFlag
from assay.contract.device import Device


class CpuDriver:
    """Finds the one CPU. Features are spelled as the Linux kernel spells them, on every system."""

    kind = "cpu"

    def find(self, settings: Mapping[str, Any]) -> Device:
        """The CPU; it is always there."""
        import archspec.cpu
        import archspec.cpu.detect

        detected = archspec.cpu.detect.detected_info()
        return Device(
            kind=self.kind,
            name=archspec.cpu.detect.brand_string() or detected.vendor or "CPU",
            generation=archspec.cpu.host().name,
            features=frozenset(detected.features),
            cores=usable_cores(),
            memory=_memory(),
        )

    def allocate(self, device: Device, size: int, flag: BufferFlag) -> None:
        """Every flag means the same on a CPU: plain memory."""

    def close(self, device: Device) -> None:
        """Nothing is held."""


def usable_cores() -> int:
    """The cores that this process may use, which may be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not every system says
        return 0
