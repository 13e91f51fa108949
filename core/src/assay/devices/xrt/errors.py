"""What pyxrt says when something fails, sorted into what can be done about it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from assay.contract.errors import DeviceLost, DeviceUnavailable
from assay.contract.reasons import ReasonCode

T = TypeVar("T")

MEMLOCK = "raise the limit of locked memory: `ulimit -l unlimited`, or memlock in /etc/security/limits.conf"
PERMISSION = "join the group that owns /dev/accel/accel0: `sudo usermod -aG render $USER`, then log in again"
DRIVER = "see that the amdxdna driver is loaded: `sudo modprobe amdxdna && sudo dmesg | tail`"
BUSY = "close programs that hold contexts on the NPU (`sudo fuser -v /dev/accel/accel0`) and try again"

TRIES = 3
RETRY_S = 0.05

_LOST = ("no such device", "err=-19", "err=19")
_CONTEXTS = ("err=28)", "err=-28)", "err=-2)", "err=-22)", "no space left")
"""What drivers have been reported to say when the device has no context left."""
_PASSING = (*_CONTEXTS, "err=-4)", "err=-11)", "err=-16)", "temporarily unavailable", "resource busy")
_MEMORY = ("err=-12", "cannot allocate memory")


def is_lost(error: Exception) -> bool:
    """Whether the device itself is gone, rather than one call failed."""
    return _says(error, _LOST)


def raised(error: Exception, what: str) -> Exception:
    """The error for what pyxrt raised at run time: the device's, the load's or the kernel's fault."""
    text = f"{what}: {error}"
    if is_lost(error):
        return DeviceLost(text)
    return MemoryError(text) if _says(error, _MEMORY) else RuntimeError(text)


def unavailable(error: Exception, what: str) -> DeviceUnavailable:
    """The reason for what pyxrt raised while a device or context was opened."""
    code, remedy = ReasonCode.OPEN_FAILED, "see what the driver says: `sudo dmesg | tail`"
    if "mmap(" in str(error) and _says(error, ("err=-11)", "temporarily unavailable")):
        code, remedy = ReasonCode.DEVICE_NOT_PERMITTED, MEMLOCK
    elif _says(error, ("err=-13", "permission denied")):
        code, remedy = ReasonCode.DEVICE_NOT_PERMITTED, PERMISSION
    elif is_lost(error):
        code, remedy = ReasonCode.DEVICE_ABSENT, DRIVER
    elif _says(error, ("invalid xclbin", "no such file '")):
        code, remedy = ReasonCode.OPEN_FAILED, "restore the file: it is not what mlir-aie writes"
    elif _says(error, _PASSING):
        code, remedy = ReasonCode.DEVICE_BUSY, BUSY
    return DeviceUnavailable(code, f"{what}: {error}", remedy)


def retried(call: Callable[[], T], what: str) -> T:
    """Call, and again a moment later if the failure is of the kind that passes.

    Raises:
        DeviceUnavailable: It failed for good.
    """
    for left in reversed(range(TRIES)):
        try:
            return call()
        except RuntimeError as error:
            if not left or "mmap(" in str(error) or not _says(error, _PASSING):
                raise unavailable(error, what) from error
            time.sleep(RETRY_S)
    raise AssertionError("unreachable")


def _says(error: Exception, signs: tuple[str, ...]) -> bool:
    return any(sign in str(error).lower() for sign in signs)
