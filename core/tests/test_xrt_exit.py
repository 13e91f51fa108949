"""The end of a process that used the NPU, on a stand-in that dies where XRT would."""

import signal
import subprocess
import sys
from pathlib import Path

import npus
import pytest
from assay.testing import simxrt

PROLOGUE = """
import sys, threading, time
import numpy as np, pyxrt
import npus
from assay.devices.xrt.kernel import XrtKernel
from assay.devices.xrt.driver import XrtDriver
from pathlib import Path

sim = pyxrt.__simulator__
device = XrtDriver().find({})
kernel = XrtKernel(npus.manifest(Path(sys.argv[1])), device, npus.plan(device, 16))
x = npus.rows(16)
assert npus.close_to(npus.run(kernel, x), x)
"""

ENDS = {
    "nothing closed": "",
    "a block in flight": "kernel.begin(x, factor=1.0)",
    "two blocks in flight": "kernel.begin(x, factor=1.0); kernel.begin(x, factor=1.0)",
    "an exception with a block in flight": "kernel.begin(x, factor=1.0); raise KeyError('deliberate')",
    "sys.exit with a block in flight": "kernel.begin(x, factor=1.0); sys.exit(1)",
    "names deleted in a bad order": "kernel.begin(x, factor=1.0); del device, sim; del kernel",
    "everything closed twice": "kernel.close(); kernel.close(); XrtDriver().close(device)",
    "a run that never ends": """
from assay.testing.simxrt import Fault
sim.inject(Fault("run", "hang"))
kernel.begin(x, factor=1.0)
""",
    "a run that never ended": """
from assay import DeviceLost
from assay.testing.simxrt import Fault
sim.inject(Fault("run", "hang"))
try:
    npus.run(kernel, x)
except DeviceLost as error:
    kept = error
assert npus.close_to(npus.run(kernel, x), x)
""",
    "a device that is gone": """
kernel.begin(x, factor=1.0)
sim.lose_device()
""",
    "a thread that goes on": """
def work():
    while True:
        npus.run(kernel, x)
threading.Thread(target=work, daemon=True).start()
time.sleep(0.05)
""",
    "an error while opening": """
from assay.testing.simxrt import Fault
sim.inject(Fault("allocate", "fail", after=3))
try:
    XrtKernel(npus.manifest(Path(sys.argv[1])), device, npus.plan(device, 4))
except MemoryError as error:
    kept = error
""",
}


@pytest.mark.parametrize(
    ("end", "xrt"),
    [*((end, "2.25") for end in ENDS), ("nothing closed", "2.20"), ("a run that never ends", "2.20")],
)
def test_no_end_is_a_crash(tmp_path, end, xrt):
    """However a process ends, it ends as it wanted to."""
    path = npus.write_manifest(tmp_path / "kernels", program="npus:on_device", watchdog_s=0.5)
    folder = simxrt.write_drop_in(
        tmp_path / "xrt", xrt=xrt, clock="spin", timing=simxrt.Timing(launch_us=5e4, watchdog_s=0.2)
    )
    done = subprocess.run(
        [sys.executable, "-c", PROLOGUE + ENDS[end], str(path)],
        env={"PYTHONPATH": f"{folder}:{Path(npus.__file__).parent}", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )
    expected = 1 if "exception" in end or "sys.exit" in end else 0
    assert done.returncode == expected, done.stderr
    assert "deliberate" in done.stderr or expected == 0 or "sys.exit" in end
    assert "crash" not in done.stderr.lower()


def test_the_stand_in_would_crash(tmp_path):
    """The same without the driver: destroying an unfinished run ends the process on XRT 2.25."""
    path = npus.write_manifest(tmp_path / "kernels", program="npus:on_device")
    slow = simxrt.Timing(launch_us=5e4)
    folder = simxrt.write_drop_in(tmp_path / "xrt", xrt="2.25", clock="spin", timing=slow)
    code = PROLOGUE + "slot = kernel.begin(x, factor=1.0); slot.run.handle = None"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        env={"PYTHONPATH": f"{folder}:{Path(npus.__file__).parent}", "PATH": ""},
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == -signal.SIGABRT
