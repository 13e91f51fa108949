"""Finding the NPU: each absence has a code, says what was found, and names the command to type."""

import importlib
import sys
from dataclasses import replace

import npus
import pytest
from assay import BufferFlag, BufferRefused, DeviceUnavailable
from assay.devices.xrt import driver as driving
from assay.devices.xrt.driver import XrtDriver, generation
from assay.testing import simxrt


def reason(settings):
    """Why there is no device."""
    with pytest.raises(DeviceUnavailable) as caught:
        XrtDriver().find(settings)
    return caught.value


@pytest.fixture
def no_pyxrt(monkeypatch):
    """A process that has not imported pyxrt, and has none on its path."""
    monkeypatch.delitem(sys.modules, "pyxrt", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv("XILINX_XRT", raising=False)
    yield
    sys.modules.pop("pyxrt", None)
    importlib.invalidate_caches()


def test_nothing_is_installed(no_pyxrt, tmp_path):
    """Without XRT the remedy is to install it, and no trace is left on the path."""
    before = list(sys.path)
    error = reason({"root": str(tmp_path)})
    assert (error.code, "not from PyPI" in str(error)) == ("device_absent", True)
    assert "`sudo apt install libxrt-npu2 python3-xrt`" in error.remedy
    assert sys.path == before


def test_packages_of_the_system_are_out_of_sight(no_pyxrt, tmp_path):
    """A virtual environment does not see what the system's package put beside the system's Python."""
    packaged = tmp_path / "usr/lib/python3/dist-packages/pyxrt.cpython-313-x86_64-linux-gnu.so"
    packaged.parent.mkdir(parents=True)
    packaged.write_text("")
    error = reason({"root": str(tmp_path)})
    assert str(packaged) in str(error)
    assert "--system-site-packages" in error.remedy


@pytest.mark.parametrize(
    ("files", "said", "remedy"),
    [
        ({}, "but without pyxrt", "install XRT's Python binding"),
        ({"pyxrt.cpython-38-x86_64-linux-gnu.so": ""}, "pyxrt.cpython-38", "run Assay on Python 3.8"),
        (
            {"pyxrt.py": "raise ImportError('libxrt_coreutil.so.2: cannot open shared object file')"},
            "does not load: libxrt_coreutil.so.2",
            "setup.sh",
        ),
        (
            {"pyxrt.py": "raise ImportError('Python version mismatch: module was compiled for Python 3.8')"},
            "version mismatch",
            "run Assay on Python",
        ),
        ({"pyxrt.py": "class device: pass"}, "older than 2.16", "install XRT 2.18 or later"),
    ],
)
def test_xrt_is_there_but_pyxrt_is_not_what_is_needed(no_pyxrt, tmp_path, files, said, remedy):
    """XRT without its binding, for another Python, without its libraries, or too old."""
    folder = tmp_path / "opt/xilinx/xrt/python"
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    error = reason({"root": str(tmp_path)})
    assert said in str(error)
    assert remedy in error.remedy


def test_pyxrt_is_found_where_xrt_puts_it(no_pyxrt, tmp_path, monkeypatch):
    """XILINX_XRT, which XRT's setup.sh sets, leads to pyxrt although it is not on the path."""
    simxrt.write_drop_in(tmp_path / "xrt/python", "strix", fatal="raise")
    (tmp_path / "xrt/version.json").write_text('{"BUILD_VERSION": "2.21.75"}')
    monkeypatch.setenv("XILINX_XRT", str(tmp_path / "xrt"))
    device = XrtDriver().find({"root": str(tmp_path)})
    assert (device.name, device.generation, device.driver) == ("NPU Strix", "npu2", "2.21.75")
    XrtDriver().close(device)


def test_no_device(tmp_path):
    """The driver knows no NPU of that index."""
    for sim, settings in ((npus.simulator("none"), {}), (npus.simulator(), {"index": 1})):
        with sim.installed():
            error = reason({"root": str(tmp_path), **settings})
        assert error.code == "device_absent"
        assert "No such device with index" in str(error)
        assert "modprobe amdxdna" in error.remedy


def test_not_permitted(tmp_path, monkeypatch):
    """The remedy is the group that owns the device."""
    monkeypatch.setattr(driving, "_locked_limit", lambda: float("inf"))
    sim = npus.simulator("not-permitted")
    with sim.installed():
        error = reason({"root": str(sim.write_system(tmp_path))})
    assert (error.code, "usermod -aG render" in error.remedy) == ("device_not_permitted", True)


@pytest.mark.parametrize("profile", ["locked-memory", "none"])
def test_locked_memory(tmp_path, monkeypatch, profile):
    """Too little of it says so, also where XRT says that there is no device."""
    monkeypatch.setattr(driving, "_locked_limit", lambda: 8 << 20)
    sim = npus.simulator(profile)
    npus.simulator().write_system(tmp_path)  # the device is there
    with sim.installed():
        error = reason({"root": str(tmp_path)})
    assert error.code == "device_not_permitted"
    assert "8388608 bytes of memory may be locked, opening an NPU takes 67108864" in str(error)
    assert "ulimit -l unlimited" in error.remedy


@pytest.mark.parametrize("settings", [{"index": "first"}, {"index": -1}, {"indx": 0}])
def test_settings_that_cannot_be(settings):
    """A setting that the driver does not know, or an index that is none, is a reason."""
    assert "[devices.xrt]" in str(reason(settings))


@pytest.mark.parametrize("message", ["open: Resource temporarily unavailable (err=-11)", "x (err=-16): busy"])
def test_what_passes_is_tried_again(tmp_path, message):
    """Two failures of the kind that passes, and the device is open; more are a reason with a remedy."""
    for count, found in ((2, True), (3, False)):
        sim = npus.simulator()
        sim.inject(simxrt.Fault("open", "fail", count=count, message=message))
        with sim.installed():
            if found:
                XrtDriver().close(XrtDriver().find({"root": str(tmp_path)}))
            else:
                error = reason({"root": str(tmp_path)})
                assert (error.code, "fuser" in error.remedy) == ("device_busy", True)
        assert sim.live == simxrt.Live()


@pytest.mark.parametrize("xrt", simxrt.VERSIONS)
def test_what_was_found(tmp_path, xrt):
    """Name, generation, the version of XRT and of the driver, and the firmware."""
    sim = npus.simulator(xrt=xrt)
    with sim.installed():
        device = XrtDriver().find({"root": str(sim.write_system(tmp_path))})
        assert (device.id, device.name, device.generation) == ("xrt:0", "NPU Phoenix", "npu1")
        assert (device.driver, device.firmware) == (f"{xrt}.0", "1.5.5.391")
        assert device.details == {"xrt": f"{xrt}.0", "amdxdna": "2.20.0"}
        XrtDriver().close(device)


@pytest.mark.parametrize("text", ["2.20.0_20250102, 1a2b3c", "2.20.0-rc1~dkms"])
def test_versions_of_builds_can_be_compared(tmp_path, text):
    """A version with a date or hash behind it counts as the number before them."""
    sim = npus.simulator()
    root = sim.write_system(tmp_path)
    (root / "opt/xilinx/xrt/version.json").unlink()
    (root / "sys/module/amdxdna/version").write_text(text)
    with sim.installed():
        device = XrtDriver().find({"root": str(root)})
        assert (device.driver, device.details["amdxdna"]) == ("2.20.0", text)
        XrtDriver().close(device)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((name, "npu1") for name in ("NPU Phoenix", "RyzenAI-npu1", "NPU Hawk Point")),
        *((f"NPU {name}", "npu2") for name in ("Strix", "Strix Halo", "Krackan 1", "Gorgon Point 2")),
        *((f"RyzenAI-npu{n}", "npu2") for n in (4, 5, 6)),
        ("NPU of tomorrow", ""),
    ],
)
def test_generations(name, expected):
    """Every name that drivers have been seen to give."""
    assert generation(name) == expected


def test_a_name_that_says_nothing(tmp_path):
    """The kernel's own name of the device tells the generation then."""
    sim = npus.simulator(replace(simxrt.PROFILES["phoenix"], name="NPU"))
    root = sim.write_system(tmp_path)
    (root / "sys/class/accel/accel0/device/vbnv").write_text("NPU Phoenix\n")
    with sim.installed():
        device = XrtDriver().find({"root": str(root)})
        assert device.generation == "npu1"
        XrtDriver().close(device)


@pytest.mark.parametrize("xrt", simxrt.VERSIONS)
def test_flags(tmp_path, xrt):
    """Only the flags that an NPU has allocate; the refusals are in XRT's words."""
    words = {
        BufferFlag.NORMAL: "unsupported buffer type: none flag",
        BufferFlag.DEVICE_ONLY: "Bad BO",
        BufferFlag.P2P: "Bad BO",
        BufferFlag.SVM: "Bad BO",
    }
    with npus.Rig(tmp_path, xrt=xrt).device() as device:
        for flag in BufferFlag:
            if flag in words:
                with pytest.raises(BufferRefused, match=words[flag]):
                    XrtDriver().allocate(device, 4096, flag)
            else:
                XrtDriver().allocate(device, 4096, flag)
        with pytest.raises(BufferRefused, match="incompatible constructor arguments"):
            XrtDriver().allocate(device, 1 << 65, BufferFlag.HOST_ONLY)


def test_a_process_opens_the_device_once(tmp_path):
    """Whoever asks gets the same device; it closes when the last one has let go."""
    rig = npus.Rig(tmp_path)
    with rig.device() as first:
        with rig.device() as second:
            assert rig.sim.live.devices == 1
            assert second.handle is first.handle
        assert rig.sim.live.devices == 1
    assert rig.sim.live == simxrt.Live()
