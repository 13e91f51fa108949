"""What pyxrt says when something fails, sorted into what can be done about it."""

from __future__ import annotations

from assay.contract.errors import DeviceLost, DeviceUnavailable
from assay.contract.reasons import ReasonCode

MEMLOCK = "raise the limit of locked memory: `ulimit -l unlimited`, or memlock in /etc/security/limits.conf"
PERMISSION = "join the group that owns /dev/accel/accel0: `sudo usermod -aG render $USER`, then log in again"

_LOST = ("no such device", "err=-19", "err=19")
_BUSY = ("err=28", "err=-28", "err=-2)", "err=-22", "no space left", "resource temporarily unavailable")
_MEMORY = ("err=-12", "cannot allocate memory")


def is_lost(error: Exception) -> bool:
    """Whether the device itself is gone, rather than one call failed."""
    return any(sign in str(error).lower() for sign in _LOST)


def raised(error: Exception, what: str) -> Exception:
    """The error for what pyxrt raised at run time: the device's, the load's or the kernel's fault."""
    text = f"{what}: {error}"
    if is_lost(error):
        return DeviceLost(text)
    if any(sign in str(error).lower() for sign in _MEMORY):
        return MemoryError(text)
    return RuntimeError(text)


def unavailable(error: Exception, what: str) -> DeviceUnavailable:
    """The reason for what pyxrt raised while a device or context was opened."""
    text = str(error).lower()
    if "mmap(" in text and ("err=-11" in text or "temporarily unavailable" in text):
        return DeviceUnavailable(ReasonCode.DEVICE_NOT_PERMITTED, f"{what}: {error}", MEMLOCK)
    if "err=-13" in text or "permission denied" in text:
        return DeviceUnavailable(ReasonCode.DEVICE_NOT_PERMITTED, f"{what}: {error}", PERMISSION)
    if is_lost(error):
        return DeviceUnavailable(
            ReasonCode.DEVICE_ABSENT,
            f"{what}: {error}",
            "see that the amdxdna driver is loaded: `sudo modprobe amdxdna && sudo dmesg | tail`",
        )
    return DeviceUnavailable(
        ReasonCode.DEVICE_BUSY,
        f"{what}: {error}",
        "close programs that hold contexts on the NPU (`sudo fuser -v /dev/accel/accel0`) and try again",
    )


def is_transient(error: Exception) -> bool:
    """Whether another try, a moment later, may succeed."""
    text = str(error).lower()
    return any(sign in text for sign in _BUSY) and "mmap(" not in text
