"""xclbin files, instruction files and uuids."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from assay.testing.simxrt import KernelImage, Simulator


def test_contents(rig: Any) -> None:
    """An xclbin tells its kernels, argument counts, banks and platform."""
    xclbin = rig.x.xclbin(rig.path)
    assert [(k.get_name(), k.get_num_args()) for k in xclbin.get_kernels()] == [("MLIR_AIE", 8)]
    assert [(m.get_tag(), m.get_index()) for m in xclbin.get_mems()] == [("HOST", 0), ("SRAM", 1)]
    assert xclbin.get_xsa_name() == "simulated_npu1"


def test_path_object(rig: Any) -> None:
    """A Path is a TypeError in pybind11's words."""
    with pytest.raises(TypeError, match=r"__init__\(\): incompatible constructor arguments"):
        rig.x.xclbin(Path(rig.path))


def test_missing(sim: Simulator) -> None:
    """A missing file is named."""
    with pytest.raises(RuntimeError, match=r"^No such file '/nowhere/a\.xclbin'$"):
        sim.module.xclbin("/nowhere/a.xclbin")


@pytest.mark.parametrize(
    "content", [b"", b"version https://git-lfs.github.com/spec/v1\n", b"xclbin3\0" + bytes(100)]
)
def test_not_an_xclbin(sim: Simulator, tmp_path: Path, content: bytes) -> None:
    """Anything without the magic is invalid, an LFS pointer too."""
    (tmp_path / "a.xclbin").write_bytes(content)
    with pytest.raises(RuntimeError, match=r"^Invalid xclbin$"):
        sim.module.xclbin(str(tmp_path / "a.xclbin"))


def test_truncated(rig: Any, sim: Simulator, tmp_path: Path) -> None:
    """A truncated file loads, registers and opens without an error; only its run times out."""
    path = tmp_path / "short.xclbin"
    path.write_bytes(Path(rig.path).read_bytes()[:-1])
    xclbin = rig.x.xclbin(str(path))
    context = rig.x.hw_context(rig.device, rig.device.register_xclbin(xclbin))
    rig.kernel = rig.x.kernel(context, "MLIR_AIE")
    state, output = rig.call(1, rig.make_run())
    assert state == "TIMEOUT"
    assert set(output) == {0xC3}


def test_truncated_early(rig: Any, tmp_path: Path) -> None:
    """A file cut off inside its metadata loads too, and has no kernels."""
    path = tmp_path / "short.xclbin"
    path.write_bytes(Path(rig.path).read_bytes()[:60])
    assert rig.x.xclbin(str(path)).get_kernels() == []


def test_same_content_same_bytes(sim: Simulator, tmp_path: Path) -> None:
    """Equal kernels give equal files, so that a hash in a manifest stays valid."""
    first = sim.write_xclbin(tmp_path / "a", [KernelImage("p")]).read_bytes()
    assert first == sim.write_xclbin(tmp_path / "b", [KernelImage("p")]).read_bytes()
    assert first != sim.write_xclbin(tmp_path / "c", [KernelImage("p", items=2)]).read_bytes()


def test_instruction_header(sim: Simulator, tmp_path: Path) -> None:
    """Word 3 of an instruction file is its length in bytes."""
    path = sim.write_instructions(tmp_path / "a.bin", "p", words=40)
    words = np.fromfile(path, "<u4")
    assert words[3] == path.stat().st_size == 160


def test_uuid(rig: Any) -> None:
    """Two uuids of one file are not equal, and nonsense is accepted."""
    xclbin = rig.x.xclbin(rig.path)
    first, second = xclbin.get_uuid(), xclbin.get_uuid()
    assert first != second
    assert first.to_string() == second.to_string()
    assert rig.x.uuid("nonsense").to_string() == "00000000-0000-0000-0000-000000000000"
