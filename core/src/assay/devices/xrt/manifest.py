"""Kernel manifests: ``kernel.toml``, which describes somebody's compiled design so that it needs no code.

docs/npu.md shows one with every key explained.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from assay.contract.capabilities import Accuracy, BufferFlag
from assay.contract.errors import ConfigError
from assay.contract.naming import near

Dtype = Literal["int8", "uint8", "int16", "uint16", "int32", "bfloat16", "float16", "float32"]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")]

HOST_ARGUMENTS = 3
"""Opcode, instructions and their length come before the buffers."""

MOST_BUFFERS = 5
"""More have made some versions of XRT crash."""

SIZES: Mapping[str, int] = {"bfloat16": 2}


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Quantisation(_Table):
    """How real values become codes: ``code = round(value / scale) + zero_point``, clipped."""

    scale: float = Field(gt=0, allow_inf_nan=False)
    zero_point: int = 0
    clip: tuple[int, int] | None = None
    """The smallest and largest code; None: those of the dtype."""
    range: tuple[float, float] | None = None
    """For an input: real values outside are brought to its ends first; where the result is the same for all
    of them, they would only make the scale coarse."""
    from_data: bool = False
    """For an input: each item has a scale of its own, so that its largest value meets the largest code.
    ``scale`` is then what the design was made for, and ``gain`` of the output says what follows."""

    @model_validator(mode="after")
    def _in_order(self) -> Quantisation:
        for key in ("clip", "range"):
            pair = getattr(self, key)
            if pair is not None and not pair[0] < pair[1]:
                raise ValueError(f"{key} = {list(pair)}: the first is smaller than the second")
        return self


class Buffer(_Table):
    """One buffer argument of the kernel."""

    role: Literal["input", "output", "scale"]
    name: str
    """The item input it carries, or "result"; for a scale, what it is the scale of: one float32 per item."""
    argument: int = Field(ge=HOST_ARGUMENTS)
    dtype: Dtype
    item_shape: tuple[Annotated[int, Field(gt=0)], ...] = ()
    quantisation: Quantisation | None = None
    scales_behind: bool = False
    """The scales of the items, one float32 each, stand behind the codes in the same buffer."""
    factor: str = ""
    """For an input: a parameter of the operation that multiplies the scale which the device gets."""
    gain: Literal["none", "linear", "log10_power"] = "none"
    """For the output: what a scale taken from the data does to it: a factor, or a term of a power's
    logarithm."""
    minimum: float | None = None
    """For the output: its smallest value, applied after the gain."""

    @model_validator(mode="after")
    def _makes_sense(self) -> Buffer:
        integer = np.dtype(self.dtype).kind in "iu" if self.dtype not in SIZES else False
        quantisation, role = self.quantisation, self.role
        wrong = ""
        if role == "scale":
            if self.dtype != "float32" or int(np.prod(self.item_shape)) != 1:
                wrong = 'a scale is one number per item: dtype = "float32", no item_shape'
            elif quantisation is not None or self.scales_behind:
                wrong = "a scale has neither quantisation nor scales_behind"
        elif integer and quantisation is None:
            wrong = f"{self.dtype} holds codes: give it a quantisation with its scale"
        elif quantisation is not None and not integer:
            wrong = f"{self.dtype} holds real values and takes no quantisation"
        elif quantisation is None and (self.scales_behind or self.factor):
            wrong = "scales_behind and factor belong to a buffer with a quantisation"
        elif quantisation is not None and (wide := _outside(quantisation, self.dtype)):
            wrong = f"{wide} does not fit {self.dtype}"
        if role != "input" and quantisation is not None and (quantisation.from_data or quantisation.range):
            wrong = "from_data and range are for inputs"
        elif role != "input" and self.factor:
            wrong = "factor is for inputs"
        elif role != "output" and (self.gain != "none" or self.minimum is not None):
            wrong = "gain and minimum are for the output"
        if wrong:
            raise ValueError(f"buffer {self.name!r}: {wrong}")
        return self

    @property
    def itemsize(self) -> int:
        """Bytes of one code."""
        return SIZES.get(self.dtype) or np.dtype(self.dtype).itemsize

    def codes(self, items: int) -> int:
        """Bytes of the codes of a batch."""
        return items * int(np.prod(self.item_shape)) * self.itemsize

    def nbytes(self, items: int) -> int:
        """Bytes of the buffer for a batch."""
        return self.codes(items) + (items * 4 if self.scales_behind else 0)


def _outside(quantisation: Quantisation, dtype: str) -> str:
    limits = np.iinfo(dtype)
    for value in (quantisation.zero_point, *(quantisation.clip or ())):
        if not limits.min <= value <= limits.max:
            return str(value)
    return ""


class Design(_Table):
    """The compiled form for one batch size."""

    batch_size: int = Field(ge=1)
    instructions: Path
    instructions_sha256: Sha256
    xclbin: Path
    xclbin_sha256: Sha256


class Manifest(_Table):
    """One implementation, described."""

    operation: Name
    name: Name
    description: str = ""
    priority: int = 80
    accuracy: Accuracy = Accuracy.APPROXIMATE
    generations: frozenset[Literal["npu1", "npu2"]] = frozenset()
    driver: str = ""
    kernel: str = "MLIR_AIE"
    opcode: int = 3
    length_unit: Literal["bytes", "words"]
    watchdog_s: float = Field(default=2.5, gt=0)
    """The longest that a run may take; a little more than the device's own 2 s, whose verdict says more."""
    buffer_flags: tuple[BufferFlag, ...] = Field(default=(BufferFlag.HOST_ONLY,), min_length=1)
    item_shape: tuple[Annotated[int, Field(gt=0)], ...] | None = None
    params: Mapping[str, Annotated[tuple[bool | int | float | str, ...], Field(min_length=1)]] = Field(
        default_factory=dict
    )
    designs: tuple[Design, ...] = Field(min_length=1)
    buffers: tuple[Buffer, ...] = Field(min_length=2, max_length=MOST_BUFFERS)
    path: Path
    """The manifest's own file; set by ``read``."""

    @field_validator("driver")
    @classmethod
    def _is_range(cls, driver: str) -> str:
        try:
            SpecifierSet(driver)
        except InvalidSpecifier as error:
            raise ValueError(f"{driver!r} is not a version range such as '>=2.18,<2.26'") from error
        return driver

    @field_validator("buffers")
    @classmethod
    def _fit_together(cls, buffers: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
        outputs = [buffer for buffer in buffers if buffer.role == "output"]
        inputs = [buffer for buffer in buffers if buffer.role == "input"]
        if len(outputs) != 1 or not inputs:
            raise ValueError(f"a kernel has inputs and one output, found {len(inputs)} and {len(outputs)}")
        arguments = [buffer.argument for buffer in buffers]
        if len(set(arguments)) != len(arguments):
            raise ValueError(f"arguments {arguments}: each buffer has its own")
        codes = {buffer.name: buffer for buffer in (*inputs, *outputs)}
        if len(codes) != len(inputs) + 1:
            raise ValueError(
                f"names {[b.name for b in (*inputs, *outputs)]}: each input and output has its own"
            )
        scales = [buffer.name for buffer in buffers if buffer.role == "scale"]
        for name in scales:
            if name not in codes:
                raise ValueError(f"a scale of {name!r}: {near(name, codes)}")
            if codes[name].quantisation is None or codes[name].scales_behind or scales.count(name) > 1:
                raise ValueError(f"a scale of {name!r}, which takes none, or has another one")
        if outputs[0].gain != "none" and not any(b.quantisation and b.quantisation.from_data for b in inputs):
            raise ValueError("the output has a gain, but no input has a scale from_data")
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
        folder = self.path.parent.resolve()
        for design in self.designs:
            for file in (design.instructions, design.xclbin):
                if not (folder / file).resolve().is_relative_to(folder):
                    raise ValueError(f"designs: {file} leads out of the manifest's folder")
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


def parse(text: str, path: Path) -> Mapping[str, Any]:
    """The tables of a manifest, not yet validated.

    Raises:
        ConfigError: It is no TOML.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None


def read(text: str, path: Path) -> Manifest:
    """A manifest from the text of its file.

    Raises:
        ConfigError: With the file, the key and the line.
    """
    data = parse(text, path)
    if "path" in data:
        raise ConfigError(f"{path}:{line_of(text, ('path',))}: unknown key 'path'")
    try:
        return Manifest.model_validate({**data, "path": path})
    except ValidationError as error:
        raise ConfigError("\n".join(_line(one, text, path) for one in error.errors())) from None


def _line(error: Any, text: str, path: Path) -> str:
    """One of pydantic's errors for the person who wrote the file."""
    loc = error["loc"]
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        message = f"unknown key: {near(str(loc[-1]), _keys(loc[:-1]))}"
    key = ".".join(str(part) for part in loc) or "manifest"
    return f"{path}:{line_of(text, loc)}: {key}: {message}"


def _keys(where: tuple[int | str, ...]) -> Iterable[str]:
    names: Mapping[str, type[_Table]] = {"buffers": Buffer, "designs": Design, "quantisation": Quantisation}
    model = next((names[str(part)] for part in reversed(where) if str(part) in names), Manifest)
    return [name for name in model.model_fields if name != "path"]


def line_of(text: str, loc: tuple[int | str, ...]) -> int:
    """The line on which a key is set, or its table begins; 1 if it is nowhere (tomllib does not say)."""
    wanted = tuple(map(str, loc))
    counts: dict[str, int] = {}
    table: tuple[str, ...] = ()
    best = (0, 1)
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*(\[{1,2})\s*([\w.-]+)\s*\]", line):
            name = header[2]
            table = tuple(name.split("."))
            if header[1] == "[[":
                counts[name] = counts.get(name, -1) + 1
                table = (name, str(counts[name]))
            elif table[0] in counts:  # a table inside the last one of an array
                table = (table[0], str(counts[table[0]]), *table[1:])
            here = table
        elif key := re.match(r"\s*([\w.-]+)\s*=", line):
            here = (*table, *key[1].split("."))
        else:
            continue
        shared = min(len(here), len(wanted))
        if here[:shared] == wanted[:shared] and shared > best[0]:
            best = (shared, number)
    return best[1]
