"""Sets up a stand-in for an NPU with kernels for all three operations, for those who have none at hand.

    python examples/npu/stand_in.py /tmp/npu
    PYTHONPATH=/tmp/npu/python assay status --config /tmp/npu/assay.toml

The folder gets a module that takes the place of pyxrt (``python``), what Linux and XRT would show of the
machine (``system``), files that stand for compiled designs with their manifests (``kernels``), and a
configuration that admits quantised kernels and prefers those of the NPU. It simulates: no figure of it is one
of hardware.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from assay.testing import simxrt

HERE = Path(__file__).parent
MEL = ("mel.toml", "assay_mel.device:log_mel", (2,))
KERNELS: dict[str, tuple[tuple[str, str, tuple[int, ...]], tuple[int, ...], dict[str, str]]] = {
    "mel-batch": (MEL, (10, 100, 1000), {}),
    "mel-batch-128": (
        MEL,
        (100,),
        {
            '"xrt-batch"': '"xrt-batch-128"',
            "n_mels = [80]": "n_mels = [128]",
            "item_shape = [80]": "item_shape = [128]",
        },
    ),
    "mel-single": (MEL, (1,), {'"xrt-batch"': '"xrt-single"'}),
    "gelu": (("gelu.toml", "assay_gelu.device:gelu_int16", (2, 3)), (1, 16), {}),
    "attention": (("attention.toml", "assay_attention.device:attention_tile", (4,)), (1, 8), {}),
}
"""For each kernel: its manifest, the function that stands for the design, which buffers it writes, its batch
sizes, and what is different in the manifest."""

CONFIG = """\
accuracy = "approximate"    # the NPU's kernels are quantised

[kernels]
paths = ["kernels"]

[devices.xrt]
root = "{root}"

[ops.mel]
prefer = ["xrt-batch*", "xrt-*"]

[ops.gelu]
prefer = ["xrt-*"]

[ops.attention]
prefer = ["xrt-*"]
"""


def write_kernel(folder: Path, kernel: str, sizes: Sequence[int] = (), generation: str = "npu1") -> Path:
    """Write one kernel's files and its manifest, whose path is returned; without ``sizes`` all of them."""
    (template, program, outputs), usual, changes = KERNELS[kernel]
    folder.mkdir(parents=True, exist_ok=True)
    text = (HERE / template).read_text()
    for old, new in {**changes, '"npu1"': f'"{generation}"'}.items():
        text = text.replace(old, new)
    for size in sizes or usual:
        image = simxrt.KernelImage(program, items=size, outputs=outputs)
        xclbin = simxrt.write_xclbin(folder / f"{size}.xclbin", [image], generation=generation)
        code = simxrt.write_instructions(folder / f"{size}.bin", program)
        text += (
            f"\n[[designs]]\nbatch_size = {size}\n"
            f'instructions = "{code.name}"\ninstructions_sha256 = "{_sha256(code)}"\n'
            f'xclbin = "{xclbin.name}"\nxclbin_sha256 = "{_sha256(xclbin)}"\n'
        )
    path = folder / "kernel.toml"
    path.write_text(text)
    return path


def write(
    folder: Path, profile: str = "phoenix", kernels: Sequence[str] = tuple(KERNELS), **options: Any
) -> Path:
    """Write everything; ``options`` go to ``simxrt.write_drop_in``. Returns the configuration's path."""
    generation = simxrt.PROFILES[profile].generation
    for kernel in kernels:
        write_kernel(folder / "kernels" / kernel, kernel, generation=generation)
    simxrt.write_drop_in(folder / "python", profile, **options)
    version = {"xrt": options["xrt"]} if "xrt" in options else {}
    simxrt.Simulator(profile, **version).write_system(folder / "system")
    path = folder / "assay.toml"
    path.write_text(CONFIG.format(root=(folder / "system").resolve()))
    return path


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    """Write everything into the folder that was given."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--machine", default="phoenix", choices=list(simxrt.PROFILES))
    parser.add_argument("--xrt", default="2.25", choices=simxrt.VERSIONS)
    faults = [fault.kind.value for fault in simxrt.every_fault() if fault.step == "run"]
    parser.add_argument("--fault", choices=faults, help="what goes wrong with every run")
    given = parser.parse_args()
    broken = [simxrt.Fault("run", given.fault, count=None)] if given.fault else []
    config = write(given.folder, given.machine, xrt=given.xrt, faults=broken)
    print(f"PYTHONPATH={given.folder / 'python'} assay status --config {config}")


if __name__ == "__main__":
    main()
