"""A kernel set up by hand through pyxrt's interface, on each release."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from assay.testing import simxrt
from assay.testing.simxrt import KernelImage, Simulator

Bytes = npt.NDArray[np.uint8]


def add_one(x: Bytes, y: Bytes) -> None:
    """Stand for a device kernel."""
    np.add(x, 1, out=y)


class Rig:
    """One kernel with an input and an output buffer, ready to run."""

    def __init__(
        self, sim: Simulator, folder: Path, function: Callable[..., Any] = add_one, **image: Any
    ) -> None:
        sim.register("rig", function)
        self.image = KernelImage("rig", **image)
        self.path = str(sim.write_xclbin(folder / "rig.xclbin", [self.image]))
        self.code = np.fromfile(sim.write_instructions(folder / "rig.bin", "rig"), np.uint32)
        self.x = px = sim.module
        self.to_device = px.xclBOSyncDirection.XCL_BO_SYNC_BO_TO_DEVICE
        self.from_device = px.xclBOSyncDirection.XCL_BO_SYNC_BO_FROM_DEVICE
        self.device = px.device(0)
        self.context = px.hw_context(self.device, self.device.register_xclbin(px.xclbin(self.path)))
        self.kernel = px.kernel(self.context, "MLIR_AIE")
        self.instructions = self.buffer(px.bo.cacheable, 1, self.code.nbytes)
        self.instructions.write(self.code, 0)
        self.instructions.sync(self.to_device)
        self.input = self.buffer(px.bo.host_only, 3)
        self.output = self.buffer(px.bo.host_only, 4)
        self.run = self.make_run()

    def buffer(self, flags: Any, argument: int, size: int = 64) -> Any:
        """Allocate a buffer for an argument."""
        return self.x.bo(self.device, size, flags, self.kernel.group_id(argument))

    def make_run(self, **changed: Any) -> Any:
        """Return a run with all arguments set; ``changed`` replaces some: ``a3=...``."""
        values = {
            "a0": 3,
            "a1": self.instructions,
            "a2": self.code.nbytes,
            "a3": self.input,
            "a4": self.output,
        }
        run = self.x.run(self.kernel)
        for name, value in (values | changed).items():
            run.set_arg(int(name[1:]), value)
        return run

    def fill(self, value: int) -> None:
        """Put ``value`` into the input and the canary into the output, on both sides."""
        for bo, byte in ((self.input, value), (self.output, 0xC3)):
            bo.write(np.full(64, byte, np.uint8), 0)
            bo.sync(self.to_device)

    def call(self, value: int, run: Any = None) -> tuple[str, bytes]:
        """Run once on bytes of ``value``; return the state's name and the output as the host sees it."""
        self.fill(value)
        run = run or self.run
        run.start()
        state = run.wait(10_000)
        self.output.sync(self.from_device)
        return state.name.removeprefix("ERT_CMD_STATE_"), bytes(self.output.map())


@pytest.fixture(params=simxrt.VERSIONS)
def sim(request: pytest.FixtureRequest) -> Simulator:
    """A Phoenix machine, with each release of XRT."""
    return Simulator("phoenix", xrt=request.param)


@pytest.fixture
def make_rig(tmp_path: Path) -> Callable[..., Rig]:
    """Set a kernel up on a simulator; keywords go into its KernelImage."""

    def make(sim: Simulator, **image: Any) -> Rig:
        return Rig(sim, tmp_path, **image)

    return make


@pytest.fixture
def rig(sim: Simulator, make_rig: Callable[..., Rig]) -> Rig:
    """A kernel that adds one to each byte."""
    return make_rig(sim)
