"""Finds the NPU: pyxrt, the device, its generation, versions, permissions; absences with remedies."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from assay.contract.capabilities import BufferFlag
from assay.contract.device import Device
from assay.contract.errors import BufferRefused, DeviceUnavailable
from assay.contract.reasons import ReasonCode
from assay.devices.xrt.errors import MEMLOCK, PERMISSION
from assay.devices.xrt.session import Session

GENERATIONS = {
    "npu1": ("phoenix", "hawk point", "npu1"),
    "npu2": ("strix", "krackan", "gorgon", "npu4", "npu5", "npu6", "npu2"),
}
"""What a device's name says about the generation that designs are compiled for."""

HEAP = 64 << 20
"""Bytes of locked memory that opening an NPU takes."""


class XrtDriver:
    """Drives one NPU. ``settings``: ``index`` (0), ``root`` ("/", where /dev, /sys and /opt are)."""

    kind = "xrt"

    def find(self, settings: Mapping[str, Any]) -> Device:
        """The NPU of the given index, opened.

        Raises:
            DeviceUnavailable: pyxrt or the device is absent, busy or not permitted.
        """
        root = Path(settings.get("root", "/"))
        index = int(settings.get("index", 0))
        pyxrt = load_pyxrt(root)
        try:
            session = Session.open(pyxrt, index)
        except DeviceUnavailable as error:
            raise _diagnose(error, root, index) from error
        name = session.name
        versions = _versions(root)
        return Device(
            kind=self.kind,
            name=name,
            index=index,
            generation=generation(name),
            driver=versions["xrt"] or versions["amdxdna"],
            firmware=_text(root, f"sys/class/accel/accel{index}/device/fw_version"),
            details=versions,
            handle=session,
        )

    def allocate(self, device: Device, size: int, flag: BufferFlag) -> None:
        """Allocate and free a buffer.

        Raises:
            BufferRefused: With XRT's own words.
        """
        session: Session = device.handle
        try:
            session.try_buffer(size, flag)
        except RuntimeError as error:
            raise BufferRefused(str(error)) from error

    def close(self, device: Device) -> None:
        """Let go of the device; it closes when nobody else in this process holds it."""
        if device.handle is not None:
            device.handle.release()


def load_pyxrt(root: Path = Path("/")) -> ModuleType:
    """Import pyxrt, from XRT's usual place if it is not on the path.

    Raises:
        DeviceUnavailable: It is not there, or made for another Python.
    """
    if "pyxrt" in sys.modules:
        return sys.modules["pyxrt"]
    base = Path(os.environ.get("XILINX_XRT", root / "opt/xilinx/xrt"))
    added = str(base / "python")
    found = importlib.util.find_spec("pyxrt") is not None
    if not found and list(Path(added).glob("pyxrt*")):
        sys.path.append(added)
    try:
        return importlib.import_module("pyxrt")
    except ModuleNotFoundError as error:
        if added in sys.path:
            sys.path.remove(added)
        if base.is_dir():
            python = platform.python_version()
            raise DeviceUnavailable(
                ReasonCode.DEVICE_ABSENT,
                f"XRT is in {base}, but no pyxrt there fits Python {python}",
                f"use the Python that XRT was built for, or `source {base}/setup.sh` of a fitting XRT",
            ) from error
        raise DeviceUnavailable(
            ReasonCode.DEVICE_ABSENT,
            "pyxrt is not installed (it comes with AMD's XRT, not from PyPI)",
            "install XRT and the amdxdna driver, then `source /opt/xilinx/xrt/setup.sh`",
        ) from error
    except ImportError as error:
        raise DeviceUnavailable(
            ReasonCode.DEVICE_ABSENT,
            f"pyxrt does not load: {error}",
            f"`source {base}/setup.sh`, which sets the library path",
        ) from error


def generation(name: str) -> str:
    """The generation of an NPU, by its name; "" when the name says nothing."""
    lower = name.lower()
    return next((gen for gen, signs in GENERATIONS.items() if any(sign in lower for sign in signs)), "")


def _diagnose(error: DeviceUnavailable, root: Path, index: int) -> DeviceUnavailable:
    """What the system knows better than XRT's message."""
    node = root / f"dev/accel/accel{index}"
    if node.exists() and not os.access(node, os.R_OK | os.W_OK):
        return DeviceUnavailable(
            ReasonCode.DEVICE_NOT_PERMITTED, f"{node} is not readable for this user", PERMISSION
        )
    if error.code == ReasonCode.DEVICE_ABSENT and node.exists() and _locked_limit() < HEAP:
        limit = f"the limit of locked memory is {_locked_limit()} bytes, opening an NPU takes {HEAP}"
        return DeviceUnavailable(ReasonCode.DEVICE_NOT_PERMITTED, f"{error}; {limit}", MEMLOCK)
    return error


def _locked_limit() -> float:
    try:
        import resource
    except ImportError:
        return float("inf")
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return float("inf") if soft == resource.RLIM_INFINITY else soft


def _versions(root: Path) -> dict[str, str]:
    try:
        text = (root / "opt/xilinx/xrt/version.json").read_text()
        xrt = str(json.loads(text).get("BUILD_VERSION", ""))
    except (OSError, ValueError, AttributeError):
        xrt = ""
    return {"xrt": xrt, "amdxdna": _text(root, "sys/module/amdxdna/version")}


def _text(root: Path, path: str) -> str:
    try:
        return (root / path).read_text().strip()
    except OSError:
        return ""
