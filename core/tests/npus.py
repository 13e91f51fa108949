"""A tiny operation, a device kernel for it, and everything that a test of the NPU's driver needs around them.

``flip(x, *, factor=1)`` reverses the rows of 32 numbers and multiplies them; its items are the rows. The
device gets int16 codes with a scale for each row, and gives int16 codes with scales of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import assay
import numpy as np
from assay.contract.device import Device
from assay.devices.xrt.driver import XrtDriver
from assay.devices.xrt.kernel import XrtKernel
from assay.devices.xrt.manifest import Manifest, read
from assay.testing import simxrt
from numpy.typing import NDArray

Array = NDArray[Any]

WIDTH = 32
CLIENTS = simxrt.VERSIONS


def expect(x: Array, factor: float = 1.0) -> NDArray[np.float64]:
    """The right answer, in float64."""
    return x.astype(np.float64)[:, ::-1] * factor


def rows(count: int, seed: int = 0) -> Array:
    """Rows of noise whose loudness differs a thousandfold."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((count, WIDTH)) * 10 ** rng.uniform(-2, 1, (count, 1))).astype(np.float32)


def on_device(codes: Array, scales: Array, result: Array, result_scales: Array) -> None:
    """Stand for the compiled design."""
    x = codes.view(np.int16).reshape(-1, WIDTH)
    result.view(np.int16).reshape(-1, WIDTH)[:] = x[:, ::-1]
    result_scales[:] = scales


def _signature(x: Array, *, factor: float = 1.0, out: Array | None = None) -> Array:
    """The signature."""
    raise NotImplementedError


def _infer(x: Array, *, factor: float) -> assay.Spec:
    if x.ndim != 2 or x.shape[1] != WIDTH:
        raise assay.InvalidInput(f"flip: x has shape {x.shape}, expected (n, {WIDTH})")
    return assay.Spec(x.shape, x.dtype)


def _reference(x: Array, *, factor: float) -> NDArray[np.float64]:
    return expect(x, factor)


def _probes(rng: np.random.Generator, domain: assay.Domain) -> Iterator[assay.Probe]:
    for factor in domain.values("factor", (1.0, -2.5)):
        for count in (3, 1, 4, 5, 17):
            x = (rng.standard_normal((count, WIDTH)) * 10 ** rng.uniform(-2, 1, (count, 1))).astype("f")
            yield assay.Probe(f"{count} rows", (x,), {"factor": factor})


def tolerance(
    kind: str, inputs: Any, params: Any, expected: Array, accuracy: assay.Accuracy
) -> assay.Tolerance:
    """Of each row's largest number: 1e-6, and 1e-4 for quantised kernels."""
    loose = 1e-4 if accuracy is assay.Accuracy.APPROXIMATE else 1e-6
    return assay.Tolerance(loose * np.abs(expected).max(axis=-1, keepdims=True) + 1e-30)


class _Rows:
    def __init__(self, x: Array, out: Array | None) -> None:
        self._x, self._y = x, np.empty_like(x) if out is None else out
        self.count, self.shapes, self.result_shape = len(x), ((WIDTH,),), (WIDTH,)

    def load(self, start: int, stop: int, blocks: Sequence[Array]) -> None:
        blocks[0][:] = self._x[start:stop]

    def store(self, start: int, stop: int, block: Array) -> None:
        self._y[start:stop] = block

    def result(self) -> Array:
        return self._y


FLIP = assay.Operation(
    name="flip",
    version="1",
    signature=_signature,
    inputs=(assay.Input("x", frozenset({"float32"})),),
    infer=_infer,
    reference=_reference,
    probes=_probes,
    tolerance=tolerance,
    standard=lambda rng: assay.Probe(
        "standard", (rng.standard_normal((64, WIDTH)).astype("f"),), {"factor": 1.0}
    ),
    presets={"latency": 4, "balanced": 16, "throughput": 16, "single": 1},
    items=assay.ItemForm(
        split=lambda inputs, params, *, item_shape, out: _Rows(inputs[0], out), reference=_reference
    ),
)


def exactly(x: Array, *, factor: float) -> Array:
    """A CPU implementation."""
    return np.ascontiguousarray(x[:, ::-1]) * x.dtype.type(factor)


class Plugin:
    """Defines the operation, and a CPU implementation of it."""

    @assay.hookimpl
    def assay_operations(self) -> Any:
        return [FLIP]

    @assay.hookimpl
    def assay_implementations(self) -> Any:
        return [assay.Implementation(op="flip", name="cpu", kernel=exactly)]


def sha256(path: Path) -> str:
    """The digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


HEAD = """\
operation = "flip"
name = "{name}"
length_unit = "bytes"
watchdog_s = {watchdog_s}
generations = ["npu1"]
buffer_flags = ["normal", "host_only"]
"""

BUFFERS = """\
[[buffers]]
role = "input"
name = "x"
argument = 3
dtype = "int16"
item_shape = [32]
quantisation = { scale = 1e-3, from_data = true }
factor = "factor"

[[buffers]]
role = "scale"
name = "x"
argument = 4
dtype = "float32"

[[buffers]]
role = "output"
name = "result"
argument = 5
dtype = "int16"
item_shape = [32]
quantisation = { scale = 1e-3 }

[[buffers]]
role = "scale"
name = "result"
argument = 6
dtype = "float32"
"""

DESIGN = """
[[designs]]
batch_size = {size}
instructions = "{size}.bin"
instructions_sha256 = "{code}"
xclbin = "{size}.xclbin"
xclbin_sha256 = "{xclbin}"
"""


def write_manifest(
    folder: Path,
    name: str = "xrt-batch",
    sizes: Sequence[int] = (4, 16),
    *,
    program: str = "flip",
    generation: str = "npu1",
    watchdog_s: float = 5.0,
    **image: Any,
) -> Path:
    """A manifest with its files; ``image`` goes into the KernelImage."""
    folder.mkdir(parents=True, exist_ok=True)
    text = HEAD.format(name=name, watchdog_s=watchdog_s)
    for size in sizes:
        made = simxrt.KernelImage(program, items=size, **{"outputs": (2, 3), **image})
        xclbin = simxrt.write_xclbin(folder / f"{size}.xclbin", [made], generation=generation)
        code = simxrt.write_instructions(folder / f"{size}.bin", program)
        text += DESIGN.format(size=size, code=sha256(code), xclbin=sha256(xclbin))
    path = folder / "kernel.toml"
    path.write_text(text + "\n" + BUFFERS)
    return path


def change(path: Path, old: str, new: str) -> Path:
    """Replace a piece of a manifest that is there once."""
    text = path.read_text()
    assert text.count(old) == 1, (old, text.count(old))
    path.write_text(text.replace(old, new))
    return path


def simulator(profile: Any = "phoenix", **options: Any) -> simxrt.Simulator:
    """A machine whose NPU runs the operation's kernel."""
    sim = simxrt.Simulator(profile, **options)
    sim.register("flip", on_device)
    return sim


class Rig:
    """A simulated machine, the files of its kernels, and its device opened by the driver."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.sim = simulator(**{"timing": simxrt.Timing(watchdog_s=0.02), **options})
        self.root = self.sim.write_system(folder / "root")
        self.driver = XrtDriver()
        self.batch = write_manifest(folder / "kernels/batch")
        self.single = write_manifest(folder / "kernels/single", "xrt-single", (1,))

    @contextmanager
    def device(self, **settings: Any) -> Iterator[Device]:
        """The device, opened."""
        with self.sim.installed():
            found = self.driver.find({"root": str(self.root), **settings})
            try:
                yield found
            finally:
                self.driver.close(found)

    @contextmanager
    def kernel(self, size: int = 16, path: Path | None = None) -> Iterator[XrtKernel]:
        """A kernel on the device, planned for blocks of so many rows."""
        with self.device() as device:
            made = XrtKernel(manifest(path or self.batch), device, plan(device, size))
            try:
                yield made
            finally:
                made.close()

    @contextmanager
    def runtime(self, **config: Any) -> Iterator[assay.Runtime]:
        """A runtime with the NPU's kernels first and the CPU's last; without proof, unless asked for."""
        settings = {
            "accuracy": "approximate",
            "plugins": {"autoload": False},
            "proof": {"mode": "off"},
            "select": "priority",
            "kernels": {"paths": [str(self.folder / "kernels")]},
            "devices": {"xrt": {"root": str(self.root)}},
            "ops": {"flip": {"prefer": ["xrt-batch", "xrt-*"]}},
            **config,
        }
        with self.sim.installed(), assay.Runtime(settings, plugins=[Plugin()]) as rt:
            yield rt


def manifest(path: Path) -> Manifest:
    """What a file says."""
    return read(path.read_text(), path)


def plan(device: Device, size: int, flag: assay.BufferFlag = assay.BufferFlag.HOST_ONLY) -> assay.Plan:
    """The terms of a kernel."""
    return assay.Plan(device, size, assay.Accuracy.APPROXIMATE, 1, flag)


def run(kernel: XrtKernel, x: Array, factor: float = 1.0) -> Array:
    """One block, begun and finished."""
    return kernel.finish(kernel.begin(x, factor=factor), np.full(x.shape, np.nan, np.float32))


def close_to(got: Array, x: Array, factor: float = 1.0) -> bool:
    """Whether a result is right, as far as int16 codes can be."""
    expected = expect(x, factor)
    limit = tolerance("", (x,), {}, expected, assay.Accuracy.APPROXIMATE).max_abs
    return bool((np.abs(got - expected) <= limit).all())
