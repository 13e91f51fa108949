"""Which machine is simulated: its NPU, driver, permissions and speed."""

import math
from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class DeviceProfile:
    """One machine.

    Attributes:
        name: what ``device.get_info(xrt_info_device.name)`` answers.
        generation: ``"npu1"`` or ``"npu2"``; an xclbin of the other one gets no context.
        context_limit: hardware contexts that may be open at a time.
        context_errno: what the driver says when there are too many; 28, 22 and 2 have been reported.
        devices: how many NPUs there are; 0 for none.
        driver: version of the ``amdxdna`` kernel module.
        firmware: version of the NPU's firmware.
        watchdog_state: how a run ends when the watchdog stops it; older drivers say ``"ABORT"``.
        permitted: whether this user may open ``/dev/accel/accel0``.
        locked_memory: bytes that may be locked (``ulimit -l``), None for no limit. Opening takes 64 MiB.
    """

    name: str = "NPU Phoenix"
    generation: str = "npu1"
    context_limit: int = 6
    context_errno: int = 28
    devices: int = 1
    driver: str = "2.20.0"
    firmware: str = "1.5.5.391"
    watchdog_state: str = "TIMEOUT"
    permitted: bool = True
    locked_memory: int | None = None


PROFILES: dict[str, DeviceProfile] = {
    "phoenix": DeviceProfile(),
    "strix": DeviceProfile(name="NPU Strix", generation="npu2", context_limit=16, firmware="1.0.0.63"),
    "none": DeviceProfile(devices=0),
    "not-permitted": DeviceProfile(permitted=False),
    "locked-memory": DeviceProfile(locked_memory=8 * MIB),
    "old-driver": DeviceProfile(watchdog_state="ABORT", driver="2.18.0"),
}
"""The machines known by name. ``dataclasses.replace`` makes others."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long things take.

    Attributes:
        launch_us: microseconds per run, whatever it does.
        us_per_item: microseconds per item of the kernel's batch.
        bytes_per_second: speed of ``bo.sync``; infinite for a sync that costs nothing.
        watchdog_s: seconds after which the driver stops a run that does not end.
        idle_after_s: seconds of rest after which the next run pays ``idle_penalty_s``.
        idle_penalty_s: seconds it takes to wake up.
    """

    launch_us: float = 60.0
    us_per_item: float = 1.0
    bytes_per_second: float = 1e9
    watchdog_s: float = 2.0
    idle_after_s: float = math.inf
    idle_penalty_s: float = 0.136


FREE = Timing(launch_us=0.0, us_per_item=0.0, bytes_per_second=math.inf)
"""A device that takes no time: what remains is the cost of the stand-in itself."""
