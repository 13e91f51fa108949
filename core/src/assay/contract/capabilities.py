"""What an implementation can take and what it needs, as its author declares it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, field_validator, model_validator
from pydantic_core import core_schema


class Accuracy(StrEnum):
    """The class of numbers that an implementation promises, and that a program admits."""

    EXACT = "exact"
    """float32 arithmetic done right."""
    APPROXIMATE = "approximate"
    """Quantised or half precision."""


class BufferFlag(StrEnum):
    """How a device buffer is allocated. Drivers differ in what they refuse."""

    NORMAL = "normal"
    CACHEABLE = "cacheable"
    HOST_ONLY = "host_only"
    DEVICE_ONLY = "device_only"
    P2P = "p2p"
    SVM = "svm"


class BatchSizes:
    """The lengths of a block that an item kernel takes.

    ``BatchSizes(1, 10, 100)`` takes exactly these, ``BatchSizes.up_to(n)`` every length from 1 to n,
    ``BatchSizes.any()`` every length from 1.
    """

    __slots__ = ("limit", "sizes")

    def __init__(self, *sizes: int) -> None:
        if not sizes or any(type(size) is not int or size < 1 for size in sizes):
            raise ValueError(
                f"BatchSizes takes one or more whole numbers from 1, got {sizes!r}; "
                "for a range use BatchSizes.up_to(n) or BatchSizes.any()"
            )
        self.sizes: tuple[int, ...] = tuple(sorted(set(sizes)))
        self.limit: int | None = self.sizes[-1]

    @classmethod
    def up_to(cls, n: int) -> BatchSizes:
        """Every length from 1 to n."""
        made = cls(n)
        made.sizes = ()
        return made

    @classmethod
    def any(cls) -> BatchSizes:
        """Every length from 1."""
        made = cls(1)
        made.sizes, made.limit = (), None
        return made

    def choose(self, demanded: int) -> int:
        """The largest declared size not above the demanded one, else the smallest."""
        if not self.sizes:
            return demanded if self.limit is None else min(demanded, self.limit)
        return max((size for size in self.sizes if size <= demanded), default=self.sizes[0])

    def hold(self, items: int, most: int) -> int:
        """The smallest block, not above ``most`` (itself a chosen size), that holds ``items``."""
        if items >= most:
            return most
        if not self.sizes:
            return items
        return next(size for size in self.sizes if size >= items)

    def to_prove(self, demanded: int) -> tuple[int, ...]:
        """Every block length that a proof must run: all declared ones, or a spread of a range."""
        if self.sizes:
            return self.sizes
        spread = {1, 2, 7, demanded}
        if self.limit is not None:
            spread = {min(size, self.limit) for size in (*spread, self.limit)}
        return tuple(sorted(spread))

    def __contains__(self, size: object) -> bool:
        if self.sizes:
            return size in self.sizes
        return isinstance(size, int) and 1 <= size <= (self.limit or size)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BatchSizes) and (self.sizes, self.limit) == (other.sizes, other.limit)

    def __hash__(self) -> int:
        return hash((self.sizes, self.limit))

    def __repr__(self) -> str:
        if self.sizes:
            return f"BatchSizes({', '.join(map(str, self.sizes))})"
        return "BatchSizes.any()" if self.limit is None else f"BatchSizes.up_to({self.limit})"

    def __str__(self) -> str:
        if self.sizes:
            return ", ".join(map(str, self.sizes))
        return "any" if self.limit is None else f"1 to {self.limit}"

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        def parse(value: object) -> BatchSizes:
            if isinstance(value, BatchSizes):
                return value
            if isinstance(value, int):
                return cls(value)
            if isinstance(value, (list, tuple, set, frozenset)):
                return cls(*value)
            raise ValueError(
                f"batch_sizes is BatchSizes(1, 10), .up_to(n), .any() or whole numbers, got {value!r}"
            )

        return core_schema.no_info_plain_validator_function(
            parse, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )


class _Declaration(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Requires(_Declaration):
    """What must be there before an implementation's code is touched.

    Args:
        device: The kind of device it runs on.
        features: CPU features, spelled as the Linux kernel spells them in ``/proc/cpuinfo``.
        packages: Python distributions, as PEP 508 requirements; checked without importing them.
        driver: A PEP 440 range for the device's driver version.
        generations: The device generations it was built for; empty: any.
        artifacts: Files it needs, each with its sha256 in hexadecimal.
    """

    device: str = "cpu"
    features: frozenset[str] = frozenset()
    packages: tuple[str, ...] = ()
    driver: str = ""
    generations: frozenset[str] = frozenset()
    artifacts: Mapping[Path, str] = Field(default_factory=dict)

    @field_validator("packages")
    @classmethod
    def _parses(cls, packages: tuple[str, ...]) -> tuple[str, ...]:
        from packaging.requirements import InvalidRequirement, Requirement

        for package in packages:
            try:
                Requirement(package)
            except InvalidRequirement as error:
                raise ValueError(
                    f"packages={package!r} is not a requirement such as 'librosa>=0.10': {error}"
                ) from error
        return packages

    @field_validator("driver")
    @classmethod
    def _is_range(cls, driver: str) -> str:
        from packaging.specifiers import InvalidSpecifier, SpecifierSet

        try:
            SpecifierSet(driver)
        except InvalidSpecifier as error:
            raise ValueError(f"driver={driver!r} is not a version range such as '>=2.18,<2.26'") from error
        return driver


ShapePredicate = Callable[..., "bool | str"]


class Capabilities(_Declaration):
    """What an implementation takes: right everywhere inside this domain, or rejected.

    Args:
        form: "whole": ``kernel(*inputs, **params)``, the request as the operation defines it.
            "items": ``kernel(*items, out=..., **params)`` on blocks of equal items along axis 0.
        batch_sizes: The block lengths that an item kernel takes.
        item_shape: The shape of an item, where the operation lets a kernel choose it.
        dtypes: Names of the dtypes of the main input that the kernel takes.
        shapes: A predicate (callable or "pkg.mod:fn") that gets the shape of each required input in order,
            and by keyword the parameters and shapes of optional inputs that it names.
            It returns True, or a sentence that says why not.
        params: For a parameter, the only values that the kernel takes.
        buffer_flags: Device buffer flags, in order of preference.
        bytes_per_item: Device memory held per item of a block.
        accuracy: "exact" or "approximate".
        strided: The kernel takes arrays as the caller has them: any strides, any alignment.
        writes_out: The kernel fills the ``out=`` that it is given, every element, and returns it.
        checks_finite: The kernel raises ``FloatingPointError`` when it meets a non-finite value
            that the operation forbids.
        thread_safe: What ``opener=`` returned may be called by several threads at a time.
        requires: What must be there.
    """

    form: Literal["whole", "items"] = "whole"
    batch_sizes: BatchSizes = Field(default_factory=BatchSizes.any)
    item_shape: tuple[int, ...] | None = None
    dtypes: frozenset[str] = frozenset({"float32"})
    shapes: str | ShapePredicate | None = None
    params: Mapping[str, frozenset[Any]] = Field(default_factory=dict)
    buffer_flags: tuple[BufferFlag, ...] = ()
    bytes_per_item: int | None = Field(default=None, ge=0)
    accuracy: Accuracy = Accuracy.EXACT
    strided: bool = False
    writes_out: bool = False
    checks_finite: bool = False
    thread_safe: bool = False
    requires: Requires = Field(default_factory=Requires)

    @field_validator("dtypes")
    @classmethod
    def _not_empty(cls, dtypes: frozenset[str]) -> frozenset[str]:
        if not dtypes:
            raise ValueError("dtypes is empty: name at least one, such as {'float32'}")
        return dtypes

    @field_validator("params")
    @classmethod
    def _some_value(cls, params: Mapping[str, frozenset[Any]]) -> Mapping[str, frozenset[Any]]:
        for name, values in params.items():
            if not values:
                raise ValueError(f"params[{name!r}] is empty: name its values, or leave the parameter out")
        return params

    @model_validator(mode="after")
    def _fits_together(self) -> Capabilities:
        if self.form == "whole" and self.item_shape is not None:
            raise ValueError("item_shape belongs to form='items'; a whole kernel gets the request as it is")
        return self
