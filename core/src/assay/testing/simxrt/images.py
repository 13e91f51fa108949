"""Small files that stand for xclbin and instruction files.

A fake xclbin has the real magic, and after it what the simulator needs to run the kernels: their names, their
argument counts and the *program* of each, a name given to ``Simulator.register`` or
``"package.module:function"``. That comes first, so that a file cut short still loads, as a real one does.
"""

import json
import struct
import uuid as uuidlib
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

MAGIC = b"xclbin2\0"
_HEADER = struct.Struct("<8sQ16sI")  # magic, length of the whole file, uuid, length of the metadata
_INSTRUCTION_MAGIC = 0x06030100
SCALARS = 3
"""An mlir-aie kernel starts with three arguments that are no data: opcode, instructions, their length."""


@dataclass(frozen=True, slots=True)
class KernelImage:
    """One kernel in a fake xclbin, in the calling convention of mlir-aie designs.

    Attributes:
        program: what runs: a registered name, or ``"package.module:function"``.
        name: the kernel's name; mlir-aie calls all of them ``MLIR_AIE``.
        args: declared arguments: opcode, instruction buffer, its length, then buffers.
        opcode: what argument 0 must be.
        length_unit: whether argument 2 counts bytes or 32-bit words.
        items: size of the batch, for the time model and for ``Kind.SLOT``.
        outputs: which buffers are written, counted from the first buffer; None for the last that is passed.
        launch_us: microseconds per run; None for the simulator's.
        us_per_item: microseconds per item; None for the simulator's.
    """

    program: str
    name: str = "MLIR_AIE"
    args: int = 8
    opcode: int = 3
    length_unit: Literal["bytes", "words"] = "bytes"
    items: int = 1
    outputs: tuple[int, ...] | None = None
    launch_us: float | None = None
    us_per_item: float | None = None


@dataclass(frozen=True, slots=True)
class XclbinImage:
    """What was read from an xclbin file. ``truncated``: the file is shorter than it says."""

    uuid: str
    generation: str
    xsa_name: str
    kernels: tuple[KernelImage, ...]
    truncated: bool = False


def write_xclbin(
    path: str | Path, kernels: Sequence[KernelImage], *, generation: str = "npu1", size: int = 8192
) -> Path:
    """Write a fake xclbin of at least ``size`` bytes and return its path.

    The same kernels give the same bytes, and so the same hash.
    """
    meta = json.dumps(
        {
            "generation": generation,
            "xsa_name": f"simulated_{generation}",
            "kernels": [asdict(k) for k in kernels],
        },
        sort_keys=True,
    ).encode()
    digest = uuidlib.uuid5(uuidlib.NAMESPACE_OID, meta.decode())
    total = max(size, _HEADER.size + len(meta) + 64)
    head = _HEADER.pack(MAGIC, total, digest.bytes, len(meta)) + meta
    filler = np.arange(total - len(head), dtype=np.uint32).astype(np.uint8).tobytes()
    path = Path(path)
    path.write_bytes(head + filler)
    return path


def read_xclbin(path: str) -> XclbinImage:
    """Read a fake xclbin as pyxrt does: a file cut short is no error.

    Raises:
        RuntimeError: ``No such file '...'`` or ``Invalid xclbin``, in pyxrt's words.
    """
    try:
        data = Path(path).read_bytes()
    except OSError:
        raise RuntimeError(f"No such file '{path}'") from None
    if not data.startswith(MAGIC) or len(data) < _HEADER.size:
        raise RuntimeError("Invalid xclbin")
    _, total, digest, length = _HEADER.unpack_from(data)
    uuid = str(uuidlib.UUID(bytes=digest))
    truncated = len(data) < total
    try:
        meta = json.loads(data[_HEADER.size : _HEADER.size + length])
    except ValueError:  # cut inside the metadata: it loads, and has no kernels
        return XclbinImage(uuid, "", "", (), truncated=True)
    kernels = tuple(
        KernelImage(**{**k, "outputs": None if k["outputs"] is None else tuple(k["outputs"])})
        for k in meta["kernels"]
    )
    return XclbinImage(uuid, meta["generation"], meta["xsa_name"], kernels, truncated)


def instructions(program: str, words: int = 64) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
    """Return the instruction stream of ``program``: uint32 (words,), word 3 the total in bytes."""
    stream = np.arange(words, dtype=np.uint32)
    stream[:4] = (_INSTRUCTION_MAGIC, zlib.crc32(program.encode()), words - 4, 4 * words)
    return stream


def write_instructions(path: str | Path, program: str, words: int = 64) -> Path:
    """Write the instruction file of ``program`` and return its path."""
    path = Path(path)
    path.write_bytes(instructions(program, words).astype("<u4").tobytes())
    return path


def instruction_bytes(program: str, device_bytes: memoryview) -> int | None:
    """Return how many bytes of ``program``'s instructions are in device memory; None if they are not."""
    if len(device_bytes) < 16:
        return None
    magic, crc, _, nbytes = struct.unpack_from("<4I", device_bytes)
    if magic != _INSTRUCTION_MAGIC or crc != zlib.crc32(program.encode()) or nbytes > len(device_bytes):
        return None
    return int(nbytes)
