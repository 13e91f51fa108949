"""What a person sees who types the commands: with an NPU, with one that gives zeros, and without one."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import npus
import pytest
from assay.testing import simxrt

EXAMPLES = Path(__file__).parents[2] / "examples/npu"
needs_mel = pytest.mark.skipif(
    not EXAMPLES.is_dir() or importlib.util.find_spec("assay_mel") is None,
    reason="the examples are not beside this installation, or assay-mel is not installed",
)

ASSAY = ("-c", "from assay.cli import main; main()")

CONFIG = """
accuracy = "approximate"
kernels.paths = ["kernels"]
plugins.deny = ["gelu", "attention", "native"]
proof.ledger = "ledger"
devices.xrt.root = "{root}"

[ops.mel]
prefer = ["xrt-batch", "xrt-*"]
deny = ["frame*", "librosa", "asrfront", "reference"]
"""

SERVER = """
import logging, os
import assay, numpy as np
from assay_mel import MEL
from assay.testing.simxrt import Fault
import pyxrt

logging.disable(logging.CRITICAL)
rng, events = np.random.default_rng(0), []
with assay.Runtime() as rt:
    rt.on("kernel.quarantined", events.append)
    before = rt.op("mel").serving
    pyxrt.__simulator__.inject(Fault("run", "zeros", count=None))
    for _ in range(8):
        audio = rng.standard_normal(20_000).astype("f") * np.float32(0.1)
        right = MEL.reference(audio, n_mels=80, center=True)
        assert np.abs(rt.submit("mel", audio).result() - right).max() < 0.05
    print(before, rt.op("mel").serving, *sorted(event["candidate"] for event in events))
    assert all("zeros" in event["reason"] for event in events)
"""


def python(folder: Path, path: Path | str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with the folder's configuration and nothing of this process's."""
    known = {name: value for name, value in os.environ.items() if not name.startswith(("ASSAY_", "XIL"))}
    known |= {"ASSAY_CONFIG": str(folder / "assay.toml"), "COLUMNS": "300", "PYTHONPATH": str(path)}
    return subprocess.run(
        [sys.executable, *arguments], env=known, capture_output=True, text=True, timeout=300
    )


class Machine:
    """A folder with a stand-in, kernels for mel and a configuration, seen through processes of their own."""

    def __init__(self, folder: Path, xrt: str) -> None:
        spec = importlib.util.spec_from_file_location("stand_in", EXAMPLES / "stand_in.py")
        stand_in = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(stand_in)
        self.folder, self.xrt = folder, xrt
        for kernel, sizes in (("mel-batch", (100,)), ("mel-single", (1,))):
            made = stand_in.write_kernel(folder / "kernels" / kernel, kernel, sizes)
            made.write_text(made.read_text().replace("n_mels = [80]", "n_mels = [80], center = [true]"))
        root = simxrt.Simulator(xrt=xrt).write_system(folder / "system")
        (folder / "assay.toml").write_text(CONFIG.format(root=root))
        self.break_with()

    def break_with(self, *faults: simxrt.Fault) -> None:
        """The faults of the processes that start from here."""
        simxrt.write_drop_in(self.folder / "python", xrt=self.xrt, faults=faults)

    def run(self, *arguments: str, pyxrt: bool = True) -> subprocess.CompletedProcess[str]:
        """Run Python."""
        return python(self.folder, self.folder / "python" if pyxrt else "", *arguments)

    def told(self, *command: str, pyxrt: bool = True) -> dict:
        """What a command of Assay says."""
        done = self.run(*ASSAY, *command, "--json", pyxrt=pyxrt)
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    def explained(self, pyxrt: bool = True) -> dict[str, dict]:
        """The candidates of mel by name."""
        told = self.told("explain", "mel", pyxrt=pyxrt)
        return {one["id"].removeprefix("mel."): one for one in told["candidates"]}


@needs_mel
@pytest.mark.parametrize("xrt", simxrt.VERSIONS)
def test_from_a_working_npu_to_one_that_gives_zeros(tmp_path, xrt):
    """The batch kernel serves with its proof; giving zeros it never does, at a start or while serving."""
    machine = Machine(tmp_path, xrt)
    (row,) = machine.told("status")["operations"]
    assert (row["chosen"], row["device"], row["batch_size"]) == ("mel.xrt-batch", "xrt:0", 100)
    assert 0 < row["error"] <= row["limit"]

    candidates = machine.explained()
    assert {name: candidates[name]["verdict"] for name in ("xrt-batch", "xrt-single", "numpy")} == {
        "xrt-batch": "chosen",
        "xrt-single": "standby",
        "numpy": "standby",
    }
    plan = candidates["xrt-batch"]["plan"]
    assert plan["buffer_flag"] == "host_only"
    ((flag, words),) = plan["refused"]
    assert (flag, words.startswith("unsupported buffer type: none flag (err=95)")) == ("normal", True)
    assert f"normal buffers were refused: {words}" in machine.run(*ASSAY, "explain", "mel").stdout

    served = machine.run("-c", SERVER)
    assert served.stdout.split() == ["mel.xrt-batch", "mel.numpy", "mel.xrt-batch", "mel.xrt-single"], (
        served.stderr
    )

    machine.break_with(simxrt.Fault("run", "zeros", count=None))
    candidates = machine.explained()
    assert candidates["numpy"]["verdict"] == "chosen"
    for name in ("xrt-batch", "xrt-single"):
        assert candidates[name]["verdict"] == "rejected"
        assert "the device gave nothing but zeros" in candidates[name]["reasons"][-1]["message"]
        assert candidates[name]["reasons"][-1]["remedy"].endswith(f"assay prove mel.{name}")


@needs_mel
def test_without_pyxrt(tmp_path):
    """Something else serves, and the commands say what to type."""
    machine = Machine(tmp_path, "2.25")
    (tmp_path / "system/opt/xilinx/xrt/version.json").unlink()
    (tmp_path / "system/opt/xilinx/xrt").rmdir()
    (row,) = machine.told("status", pyxrt=False)["operations"]
    assert row["chosen"] == "mel.numpy"
    assert any("'xrt-batch' was rejected (device_absent)" in text for text in row["warnings"])
    reason = machine.explained(pyxrt=False)["xrt-batch"]["reasons"][-1]
    found = machine.told("doctor", pyxrt=False)["findings"]
    (device,) = [finding for finding in found if finding["about"] == "device xrt"]
    for text, remedy in ((reason["message"], reason["remedy"]), (device["what"], device["remedy"])):
        assert text.startswith("pyxrt is not installed")
        assert "`sudo apt install libxrt-npu2 python3-xrt`" in remedy


PLUGIN = """
from pathlib import Path
import assay, npus

@assay.hookimpl
def assay_operations():
    yield npus.FLIP

@assay.hookimpl
def assay_implementations():
    yield assay.Implementation(op="flip", name="cpu", kernel="npus:exactly")
    yield from assay.manifests(Path(__file__).parent / "kernels")
"""


def test_a_package_that_ships_manifests(tmp_path):
    """Its entry point yields them; they are proved and served like any other, in the package's name."""
    package, metadata = tmp_path / "flip_npu", tmp_path / "flip_npu-1.2.dist-info"
    npus.write_manifest(package / "kernels/batch", program="npus:on_device")
    (package / "__init__.py").write_text("")
    (package / "plugin.py").write_text(PLUGIN)
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: flip-npu\nVersion: 1.2\n")
    (metadata / "entry_points.txt").write_text("[assay]\nflip-npu = flip_npu.plugin\n")
    root = simxrt.Simulator().write_system(tmp_path / "system")
    simxrt.write_drop_in(tmp_path)
    (tmp_path / "assay.toml").write_text(
        'accuracy = "approximate"\nselect = "priority"\nproof.ledger = "ledger"\n'
        f'plugins.allow = ["flip-npu"]\ndevices.xrt.root = "{root}"\n'
    )
    path = f"{tmp_path}{os.pathsep}{Path(npus.__file__).parent}"
    done = python(tmp_path, path, *ASSAY, "explain", "flip", "--json")
    assert done.stdout, done.stderr
    first, second = json.loads(done.stdout)["candidates"]
    assert (first["id"], first["verdict"], first["distribution"]) == (
        "flip.xrt-batch",
        "chosen",
        "flip-npu 1.2",
    )
    assert first["certificate"]["measurements"]
    assert (second["id"], second["verdict"]) == ("flip.cpu", "standby")
