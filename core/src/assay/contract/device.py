"""A device as a plan sees it, and what a driver must offer to find one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from assay.contract.capabilities import Accuracy, BufferFlag


@dataclass(frozen=True, slots=True)
class Device:
    """One device that was found. ``handle`` is the driver's own object, opened on first use.

    ``memory`` is in bytes, 0 where unknown.
    """

    kind: str
    name: str
    index: int = 0
    generation: str = ""
    features: frozenset[str] = frozenset()
    cores: int = 0
    memory: int = 0
    driver: str = ""
    firmware: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    handle: Any = field(default=None, compare=False, repr=False)

    @property
    def id(self) -> str:
        """``kind:index``, unique in a runtime."""
        return f"{self.kind}:{self.index}"


@dataclass(frozen=True, slots=True)
class Plan:
    """The terms agreed for one candidate.

    ``buffer_flag`` is None where no device buffer is asked for; ``refused`` holds the flags that the
    device refused with its own words; ``memory`` is what the plan holds on the device, in bytes.
    """

    device: Device
    batch_size: int
    accuracy: Accuracy = Accuracy.EXACT
    threads: int = 1
    buffer_flag: BufferFlag | None = None
    refused: tuple[tuple[BufferFlag, str], ...] = ()
    memory: int = 0


@runtime_checkable
class DeviceDriver(Protocol):
    """Finds and opens the devices of one kind."""

    kind: str

    def find(self, settings: Mapping[str, Any]) -> Device:
        """The device that the settings ([devices.KIND] in the config) ask for.

        Raises:
            DeviceUnavailable: With a reason's code and the command that would mend it.
        """

    def allocate(self, device: Device, size: int, flag: BufferFlag) -> None:
        """Try to allocate ``size`` bytes with this flag and free them again.

        Raises:
            BufferRefused: The device does not allocate with this flag; its own words.
        """

    def close(self, device: Device) -> None:
        """Let go of whatever the driver holds for this device. May be called more than once."""
