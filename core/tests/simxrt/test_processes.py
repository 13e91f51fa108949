"""What a simulator does to a whole process, and for other processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from assay.testing import simxrt

DIE = """
import runpy
from pathlib import Path
from assay.testing.simxrt import Simulator
rig = runpy.run_path({conftest!r})["Rig"](Simulator(xrt="2.25", fatal="real"), Path({folder!r}))
{action}
"""


@pytest.mark.parametrize(
    ("action", "signal"),
    [("rig.run.set_arg(8, rig.input)", 11), ("run = rig.make_run(); run.start(); del run", 6)],
)
def test_really_fatal(tmp_path: Path, action: str, signal: int) -> None:
    """With fatal="real" the process dies as it would in pyxrt."""
    code = DIE.format(
        conftest=str(Path(__file__).with_name("conftest.py")), folder=str(tmp_path), action=action
    )
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, timeout=60, check=False)
    assert done.returncode == -signal, done.stderr.decode()


def test_drop_in(tmp_path: Path) -> None:
    """write_drop_in gives other processes a pyxrt to import, with the machine and the faults it names."""
    folder = simxrt.write_drop_in(
        tmp_path,
        "strix",
        xrt="2.25",
        timing=simxrt.FREE,
        programs={"mine": "numpy:copyto"},
        faults=[simxrt.Fault(simxrt.Step.OPEN, simxrt.Kind.FAIL)],
    )
    code = """
import pyxrt
try:
    pyxrt.device(0)
except RuntimeError as error:
    print(error)
print(pyxrt.device(0).get_info(pyxrt.xrt_info_device.name), pyxrt.__simulator__.xrt)
print(pyxrt.__simulator__.program("mine").__name__, pyxrt.__simulator__.engine.timing.launch_us)
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, timeout=60, check=True, text=True
    )
    assert done.stdout.splitlines() == ["No such device with index '0'", "NPU Strix 2.25", "copyto 0.0"]
