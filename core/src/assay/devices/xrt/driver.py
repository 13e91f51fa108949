"""Finds the NPU: pyxrt, the device, its generation, versions, permissions; absences with remedies."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from assay.contract.capabilities import BufferFlag
from assay.contract.device import Device
from assay.contract.errors import BufferRefused, DeviceUnavailable
from assay.contract.naming import near
from assay.contract.reasons import ReasonCode
from assay.devices.xrt.errors import DRIVER, MEMLOCK, PERMISSION
from assay.devices.xrt.session import Session

GENERATIONS = {
    "npu1": ("phoenix", "hawk point", "npu1"),
    "npu2": ("strix", "krackan", "gorgon", "npu4", "npu5", "npu6", "npu2"),
}
"""What a device's name says about the generation that designs are compiled for."""

HEAP = 64 << 20
"""Bytes of locked memory that opening an NPU takes."""

SETTINGS = ("index", "root")

INSTALL = (
    "install XRT with its Python binding: `sudo apt install libxrt-npu2 python3-xrt` (Ubuntu), "
    "or build it and `source /opt/xilinx/xrt/setup.sh`; docs/npu.md says more"
)

PACKAGED = ("usr/lib/python3/dist-packages", "usr/lib*/python3*/site-packages")
"""Where packages of Linux distributions put pyxrt; a virtual environment does not look there."""


class XrtDriver:
    """Drives one NPU. ``settings``: ``index`` (0), ``root`` ("/", where /dev, /sys and /opt are)."""

    kind = "xrt"

    def find(self, settings: Mapping[str, Any]) -> Device:
        """The NPU of the given index, opened.

        Raises:
            DeviceUnavailable: pyxrt or the device is absent, busy or not permitted.
        """
        root, index = _read(settings)
        pyxrt = load_pyxrt(root)
        try:
            session = Session.open(pyxrt, index)
        except DeviceUnavailable as error:
            raise _diagnose(error, root, index) from error
        shown = f"sys/class/accel/accel{index}/device"
        versions = _versions(root)
        return Device(
            kind=self.kind,
            name=session.name,
            index=index,
            generation=generation(session.name) or generation(_text(root, f"{shown}/vbnv")),
            driver=_number(versions["xrt"] or versions["amdxdna"]),
            firmware=_text(root, f"{shown}/fw_version"),
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
            session.pyxrt.bo(session.device, size, session.flag(flag), 0)
        except (RuntimeError, TypeError, AttributeError) as error:  # the last: a flag that this pyxrt lacks
            raise BufferRefused(str(error).splitlines()[0]) from error

    def close(self, device: Device) -> None:
        """Let go of the device; it closes when nobody else in this process holds it."""
        if device.handle is not None:
            device.handle.release()


def _read(settings: Mapping[str, Any]) -> tuple[Path, int]:
    wrong = ""
    if unknown := sorted(set(settings) - set(SETTINGS)):
        wrong = f"{unknown[0]!r} is no setting: {near(unknown[0], SETTINGS)}"
    elif not str(settings.get("index", 0)).isdecimal():
        wrong = f"index = {settings['index']!r}: expected 0, 1, ..."
    if wrong:
        raise DeviceUnavailable(ReasonCode.DEVICE_ABSENT, f"[devices.xrt] {wrong}", "correct it")
    return Path(settings.get("root", "/")), int(settings.get("index", 0))


def load_pyxrt(root: Path = Path("/")) -> ModuleType:
    """Import pyxrt, from XRT's usual place if it is not on the path.

    Raises:
        DeviceUnavailable: It is not there, made for another Python, too old, or does not load.
    """
    base = _base(root)
    folder = str(base / "python")
    added = (
        "pyxrt" not in sys.modules and importlib.util.find_spec("pyxrt") is None and folder not in sys.path
    )
    if added:
        sys.path.append(folder)
    try:
        pyxrt = importlib.import_module("pyxrt")
    except ImportError as error:
        if added:
            sys.path.remove(folder)
        raise _not_imported(error, base, root) from error
    if not hasattr(pyxrt, "hw_context") or not hasattr(pyxrt.device, "register_xclbin"):
        raise DeviceUnavailable(
            ReasonCode.DRIVER_VERSION,
            f"the pyxrt in {getattr(pyxrt, '__file__', base)} has no hw_context: its XRT is older than 2.16",
            "install XRT 2.18 or later",
        )
    return pyxrt


def _base(root: Path) -> Path:
    """Where XRT is: its setup.sh sets the variable."""
    return Path(os.environ.get("XILINX_XRT", root / "opt/xilinx/xrt"))


def _not_imported(error: ImportError, base: Path, root: Path) -> DeviceUnavailable:
    here = platform.python_version()
    there = sorted(path.name for path in (base / "python").glob("pyxrt*.so"))
    packaged = [str(path) for folder in PACKAGED for path in root.glob(f"{folder}/pyxrt*.so")]
    if not isinstance(error, ModuleNotFoundError) and "version mismatch" not in str(error):
        text, remedy = (
            f"pyxrt does not load: {error}",
            f"`source {base}/setup.sh`, which sets the library path",
        )
    elif there or not isinstance(error, ModuleNotFoundError):
        fits = [f"{m[1]}.{m[2]}" for name in there if (m := re.search(r"cpython-(\d)(\d+)", name))]
        text = f"the pyxrt of XRT in {base} ({', '.join(there) or error}) is not for Python {here}"
        remedy = f"run Assay on Python {' or '.join(fits) or 'of the version that XRT was built for'}"
    elif packaged:
        text = f"pyxrt is in {packaged[0]}, which Python {here} in {sys.prefix} does not look into"
        remedy = "make the environment with `python3 -m venv --system-site-packages` and the system's Python"
    elif base.is_dir():
        text = f"XRT is in {base}, but without pyxrt"
        remedy = "install XRT's Python binding (`sudo apt install python3-xrt`), or build XRT with it"
    else:
        text, remedy = "pyxrt is not installed (it comes with AMD's XRT, not from PyPI)", INSTALL
    return DeviceUnavailable(ReasonCode.DEVICE_ABSENT, text, remedy)


def generation(name: str) -> str:
    """The generation of an NPU, by its name; "" when the name says nothing."""
    lower = name.lower()
    return next((gen for gen, signs in GENERATIONS.items() if any(sign in lower for sign in signs)), "")


def _diagnose(error: DeviceUnavailable, root: Path, index: int) -> DeviceUnavailable:
    """What the system knows better than XRT's message."""
    node = root / f"dev/accel/accel{index}"
    code = error.code
    if not node.exists():
        if code == ReasonCode.DEVICE_ABSENT:
            return DeviceUnavailable(code, f"{error}; {node} is not there either", DRIVER)
        return error
    if not os.access(node, os.R_OK | os.W_OK):
        text = f"{error}; {node} may not be read and written by this user"
        return DeviceUnavailable(ReasonCode.DEVICE_NOT_PERMITTED, text, PERMISSION)
    limit = _locked_limit()
    # Too little locked memory may look like a missing device or permission.
    if limit < HEAP and code in (ReasonCode.DEVICE_ABSENT, ReasonCode.DEVICE_NOT_PERMITTED):
        text = f"{error}; {limit:.0f} bytes of memory may be locked, opening an NPU takes {HEAP}"
        return DeviceUnavailable(ReasonCode.DEVICE_NOT_PERMITTED, text, MEMLOCK)
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
        text = (_base(root) / "version.json").read_text()
        xrt = str(json.loads(text).get("BUILD_VERSION", ""))
    except (OSError, ValueError, AttributeError):
        xrt = ""
    return {"xrt": xrt, "amdxdna": _text(root, "sys/module/amdxdna/version")}


def _number(version: str) -> str:
    """The part of a version that can be compared: builds append dates and hashes."""
    return match[0] if (match := re.match(r"\d+(\.\d+)*", version)) else ""


def _text(root: Path, path: str) -> str:
    try:
        return (root / path).read_text().strip()
    except OSError:
        return ""
