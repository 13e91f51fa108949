"""Kernel manifests: ``kernel.toml``, which describes somebody's compiled design so that it needs no code.

docs/manifests.md shows one with every key explained.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from assay.config import line_of
from assay.contract.capabilities import Accuracy, BufferFlag
from assay.contract.errors import ConfigError
from assay.contract.naming import near

Dtype = Literal["int8", "uint8", "int16", "int32", "float16", "float32"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")]

MOST_BUFFERS = 5
"""Buffers after opcode, instructions and length; more have made some versions of XRT crash."""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Quantisation(_Table):
    """How real values become codes: ``code = round(value / scale) + zero_point``, clipped."""

    scale: float = Field(gt=0)
    zero_point: int = 0
    clip: tuple[int, int] | None = None
    """The smallest and largest code; None: those of the dtype."""
    from_data: bool = False
    """For an input: each item has a scale of its own, so that its largest value meets the largest code.
    ``scale`` is then what the design was made for, and ``gain`` of the output says what follows."""


class Buffer(_Table):
    """One buffer argument of the kernel."""

    role: Literal["input", "output", "scale"]
    name: str
    """The item input it carries, or "result"; for a scale, one float32 per item: what it is the scale of."""
    argument: int = Field(ge=0)
    dtype: Dtype
    item_shape: tuple[Annotated[int, Field(gt=0)], ...] = ()
    quantisation: Quantisation | None = None
    scales_behind: bool = False
    """The scales of the items, one float32 each, stand behind the codes in the same buffer."""
    factor: str = ""
    """A parameter of the operation that multiplies the scale which the device gets, such as "scale" for q."""
    gain: Literal["none", "linear", "log10_power"] = "none"
    """What a scale taken from the data does to this output: a factor, or a term of a power's logarithm."""

    minimum: float | None = None
    """The smallest value of this output, applied after the gain."""

    @model_validator(mode="after")
    def _codes_are_explained(self) -> Buffer:
        integer = np.dtype(self.dtype).kind in "iu"
        if integer and self.quantisation is None and self.role != "scale":
            raise ValueError(
                f"buffer {self.name!r} holds {self.dtype} codes: give it a quantisation with its scale"
            )
        return self

    def nbytes(self, items: int) -> int:
        """Bytes of the buffer for a batch."""
        return self.codes(items) + (items * 4 if self.scales_behind else 0)

    def codes(self, items: int) -> int:
        """Bytes of the codes alone."""
        return items * int(np.prod(self.item_shape)) * np.dtype(self.dtype).itemsize


class Design(_Table):
    """The compiled form for one batch size."""

    batch_size: int = Field(ge=1)
    instructions: Path
    instructions_sha256: Sha256
    xclbin: Path
    xclbin_sha256: Sha256


class Manifest(_Table):
    """One implementation, described."""

    operation: str
    name: str
    description: str = ""
    priority: int = 80
    accuracy: Accuracy = Accuracy.APPROXIMATE
    generations: frozenset[str] = frozenset()
    driver: str = ""
    kernel: str = "MLIR_AIE"
    opcode: int = 3
    length_unit: Literal["bytes", "words"]
    watchdog_s: float = Field(default=2.0, gt=0)
    buffer_flags: tuple[BufferFlag, ...] = (BufferFlag.HOST_ONLY,)
    item_shape: tuple[int, ...] | None = None
    params: Mapping[str, tuple[bool | int | float | str, ...]] = Field(default_factory=dict)
    designs: tuple[Design, ...] = Field(min_length=1)
    buffers: tuple[Buffer, ...] = Field(min_length=2, max_length=MOST_BUFFERS)
    path: Path
    """The manifest's own file; set by ``read``."""

    @field_validator("buffers")
    @classmethod
    def _one_output(cls, buffers: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
        outputs = [buffer for buffer in buffers if buffer.role == "output"]
        if len(outputs) != 1 or not any(buffer.role == "input" for buffer in buffers):
            raise ValueError(f"a kernel has inputs and exactly one output, found {len(outputs)} outputs")
        arguments = [buffer.argument for buffer in buffers]
        if len(set(arguments)) != len(arguments) or min(arguments) < 3:
            raise ValueError(
                f"arguments {arguments}: each buffer has its own, from 3; 0 to 2 are set by the host"
            )
        names = {buffer.name for buffer in buffers if buffer.role != "scale"}
        for buffer in buffers:
            if buffer.role == "scale" and buffer.name not in names:
                raise ValueError(f"a scale of {buffer.name!r}: {near(buffer.name, names)}")
        return buffers

    @field_validator("designs")
    @classmethod
    def _distinct(cls, designs: tuple[Design, ...]) -> tuple[Design, ...]:
        sizes = [design.batch_size for design in designs]
        if len(set(sizes)) != len(sizes):
            raise ValueError(f"batch sizes {sizes}: each design has its own")
        return designs

    @model_validator(mode="after")
    def _files_stay_inside(self) -> Manifest:
        folder = self.path.parent
        for design in self.designs:
            for file in (design.instructions, design.xclbin):
                if not (folder / file).resolve().is_relative_to(folder.resolve()):
                    raise ValueError(f"{file} leads out of the manifest's folder {folder}")
        return self

    def file(self, path: Path) -> Path:
        """Where a file of this manifest is."""
        return self.path.parent / path

    @property
    def inputs(self) -> list[Buffer]:
        """The item inputs, in the order of the manifest, which is that of the operation's items."""
        return [buffer for buffer in self.buffers if buffer.role == "input"]

    @property
    def output(self) -> Buffer:
        """The one output."""
        return next(buffer for buffer in self.buffers if buffer.role == "output")

    def scale_of(self, name: str) -> Buffer | None:
        """The buffer that carries the scale of an input or of the result."""
        return next((b for b in self.buffers if b.role == "scale" and b.name == name), None)


def read(path: Path) -> Manifest:
    """Read one manifest.

    Raises:
        ConfigError: With the file, the key and the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    try:
        return Manifest.model_validate({**data, "path": path})
    except ValidationError as error:
        lines = []
        for one in error.errors():
            key = ".".join(str(part) for part in one["loc"])
            hint = ""
            if one["type"] == "extra_forbidden":
                hint = f": {near(str(one['loc'][-1]), _keys(one['loc'][:-1]))}"
            lines.append(f"{path}:{line_of(text, key)}: {key or 'manifest'}: {one['msg']}{hint}")
        raise ConfigError("\n".join(lines)) from None


def _keys(where: tuple[int | str, ...]) -> Iterable[str]:
    names = {"buffers": Buffer, "designs": Design, "quantisation": Quantisation}
    model: Any = next((names[str(part)] for part in reversed(where) if str(part) in names), Manifest)
    return [str(name) for name in model.model_fields if name != "path"]


def find(paths: Iterable[Path]) -> list[Path]:
    """Every ``kernel.toml`` (or ``*.kernel.toml``) at or below the paths, in a fixed order."""
    found: set[Path] = set()
    for path in paths:
        if path.is_file():
            found.add(path)
        else:
            found.update(path.rglob("kernel.toml"))
            found.update(path.rglob("*.kernel.toml"))
    return sorted(found)
