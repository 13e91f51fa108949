"""Opening the device, contexts and kernels."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from assay.testing import simxrt
from assay.testing.simxrt import KernelImage, SimulatedCrash, Simulator


@pytest.mark.parametrize(("profile", "name"), [("phoenix", "NPU Phoenix"), ("strix", "NPU Strix")])
def test_name(profile: str, name: str) -> None:
    """get_info(name) answers with the marketing name."""
    px = Simulator(profile).module
    assert px.device(0).get_info(px.xrt_info_device.name) == name


def test_get_info_key(rig: Any) -> None:
    """A key that is no xrt_info_device is a TypeError."""
    with pytest.raises(TypeError, match="get_info"):
        rig.device.get_info("name")


@pytest.mark.parametrize(("profile", "index"), [("none", 0), ("phoenix", 1)])
def test_absent(profile: str, index: int) -> None:
    """A device that is not there is named by its index."""
    with pytest.raises(RuntimeError, match=f"^No such device with index '{index}'$"):
        Simulator(profile).module.device(index)


def test_not_permitted() -> None:
    """Without permission the device file is named."""
    with pytest.raises(RuntimeError, match=r"^Open /dev/accel/accel0 failed \(err=-13\): Permission denied$"):
        Simulator("not-permitted").module.device(0)


def test_locked_memory_at_opening() -> None:
    """Opening locks 64 MiB, and fails when the limit is lower."""
    message = r"^mmap\(.* len=67108864, .*\) failed \(err=-11\): Resource temporarily unavailable$"
    with pytest.raises(RuntimeError, match=message):
        Simulator("locked-memory").module.device(0)


def test_locked_memory_of_buffers(make_rig: Any) -> None:
    """Buffers count against the limit for as long as they live."""
    sim = Simulator(simxrt.DeviceProfile(locked_memory=65 << 20))
    rig = make_rig(sim)
    first = rig.buffer(rig.x.bo.host_only, 3, 900_000)
    with pytest.raises(RuntimeError, match=r"len=900000.*\(err=-11\)"):
        rig.buffer(rig.x.bo.host_only, 3, 900_000)
    del first
    assert rig.buffer(rig.x.bo.host_only, 3, 900_000).size() == 900_000


@pytest.mark.parametrize(("profile", "limit"), [("phoenix", 6), ("strix", 16)])
def test_context_limit(profile: str, limit: int, tmp_path: Path) -> None:
    """Contexts run out at 6 or 16, and one that is dropped makes room."""
    sim = Simulator(profile)
    px = sim.module
    path = sim.write_xclbin(tmp_path / "a.xclbin", [KernelImage("p")])
    device = px.device(0)
    uuid = device.register_xclbin(px.xclbin(str(path)))
    contexts = [px.hw_context(device, uuid) for _ in range(limit)]
    with pytest.raises(
        RuntimeError, match=r"CREATE_HWCTX IOCTL failed \(err=-28\): No space left on device$"
    ):
        px.hw_context(device, uuid)
    contexts.pop()
    px.hw_context(device, uuid)


@pytest.mark.parametrize(("errno", "text"), [(22, "Invalid argument"), (2, "No such file or directory")])
def test_context_errno(errno: int, text: str, make_rig: Any) -> None:
    """Other drivers report a lack of contexts with other numbers."""
    sim = Simulator(simxrt.DeviceProfile(context_limit=0, context_errno=errno))
    with pytest.raises(RuntimeError, match=rf"\(err=-{errno}\): {text}$"):
        make_rig(sim)


def test_wrong_generation(sim: Simulator, tmp_path: Path) -> None:
    """An xclbin for the other generation of NPUs gets no context."""
    path = sim.write_xclbin(tmp_path / "a.xclbin", [KernelImage("p")], generation="npu2")
    px = sim.module
    device = px.device(0)
    uuid = device.register_xclbin(px.xclbin(str(path)))
    with pytest.raises(RuntimeError, match=r"CREATE_HWCTX IOCTL failed \(err=-22\): Invalid argument$"):
        px.hw_context(device, uuid)


def test_unregistered_uuid(rig: Any) -> None:
    """A uuid that was never registered opens no context."""
    with pytest.raises(RuntimeError, match=r"is registered: Invalid argument$"):
        rig.x.hw_context(rig.device, rig.x.uuid("nonsense"))


def test_context_forms(sim: Simulator, rig: Any) -> None:
    """The later release takes an xclbin or its path; the earlier one refuses both."""
    for program in (rig.path, rig.x.xclbin(rig.path)):
        if sim.xrt == "2.20":
            with pytest.raises(TypeError, match="incompatible constructor"):
                rig.x.hw_context(rig.device, program)
        else:
            rig.x.kernel(rig.x.hw_context(rig.device, program), "MLIR_AIE")


def test_load_xclbin(rig: Any) -> None:
    """load_xclbin does not work on NPUs."""
    with pytest.raises(RuntimeError, match=r"^load_axlf: Operation not supported$"):
        rig.device.load_xclbin(rig.x.xclbin(rig.path))


def test_no_such_kernel(rig: Any) -> None:
    """A kernel that is not in the xclbin is named."""
    with pytest.raises(RuntimeError, match=r"^No such kernel 'MEL': Invalid argument$"):
        rig.x.kernel(rig.context, "MEL")


def test_unregistered_program(sim: Simulator, tmp_path: Path) -> None:
    """A program that nobody registered is a mistake of the test, and says what to do."""
    path = sim.write_xclbin(tmp_path / "a.xclbin", [KernelImage("nobody")])
    px = sim.module
    device = px.device(0)
    context = px.hw_context(device, device.register_xclbin(px.xclbin(str(path))))
    with pytest.raises(LookupError, match=r"call Simulator\.register\('nobody', function\)"):
        px.kernel(context, "MLIR_AIE")


def test_group_ids(rig: Any) -> None:
    """A group id is slot << 16 | bank, and a scalar has bank 0xFFFF."""
    assert [rig.kernel.group_id(i) & 0xFFFF for i in range(8)] == [0xFFFF, 1, 0xFFFF, 0, 0, 0, 0, 0]
    assert len({rig.kernel.group_id(i) >> 16 for i in range(8)}) == 1
    with pytest.raises(IndexError):
        rig.kernel.group_id(8)


def test_empty_handles_crash(rig: Any) -> None:
    """Handles made empty are accepted, and crash the process when they are used."""
    px = rig.x
    uses: list[Callable[[], Any]] = [
        lambda: px.run().start(),
        lambda: px.run().wait(1),
        lambda: px.run().set_arg(0, 3),
        lambda: px.kernel(px.hw_context(), "MLIR_AIE"),
        lambda: px.device().get_info(px.xrt_info_device.name),
        lambda: px.xclbin().get_kernels(),
    ]
    for use in uses:
        with pytest.raises(SimulatedCrash, match=r"segmentation fault: .* made empty and used"):
            use()


def test_system_files(sim: Simulator, tmp_path: Path) -> None:
    """write_system shows the device as Linux does, and XRT's version."""
    root = sim.write_system(tmp_path)
    device = root / "sys/class/accel/accel0/device"
    assert (device / "vbnv").read_text().strip() == "NPU Phoenix"
    assert (device / "fw_version").read_text().strip() == sim.profile.firmware
    assert (root / "dev/accel/accel0").exists()
    assert f'"{sim.xrt}.0"' in (root / "opt/xilinx/xrt/version.json").read_text()
