"""An operation: the contract that implementations fulfil and that their proof is held against."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from assay.contract.capabilities import Accuracy

P = ParamSpec("P")
R = TypeVar("R")

Array = NDArray[Any]
Arrays = tuple[Array | None, ...]
"""The inputs of a request in the operation's order; None for an optional one that is absent."""
Params = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Spec:
    """The shape and dtype of a result, in native byte order."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __post_init__(self) -> None:
        # NumPy's own object for a dtype: whoever compares by identity first, as the hot path does, is quick.
        object.__setattr__(self, "dtype", np.dtype(self.dtype.type))


@dataclass(frozen=True, slots=True)
class Input:
    """An array that a request brings.

    Args:
        name: Its name in the operation's signature.
        dtypes: Names of the dtypes that the operation accepts for it.
        finite: NaN and infinities are refused as ``InvalidInput``.
        optional: May be None; given by keyword.
    """

    name: str
    dtypes: frozenset[str]
    finite: bool = False
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The largest admitted error: absolute (a number or one per element), and root mean square."""

    max_abs: float | Array
    rms: float | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """One request of a proof.

    ``kind`` is handed to the operation's tolerance ("tone" may err more than "noise").
    """

    name: str
    inputs: Arrays
    params: Params
    kind: str = ""


class Domain(Protocol):
    """What a probe may use: the declared domain of the implementation that is proved."""

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The dtypes of the main input to cover, in a fixed order."""

    def values(self, param: str, usual: Sequence[Any]) -> tuple[Any, ...]:
        """The declared values of a parameter in a fixed order, or the usual ones where it is free."""


class Items(Protocol):
    """One request cut into equal items. Made by ``ItemForm.split``."""

    @property
    def count(self) -> int:
        """How many items there are; may be 0."""

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape of one item of each item input."""

    @property
    def result_shape(self) -> tuple[int, ...]:
        """The shape of one item's result."""

    def load(self, start: int, stop: int, blocks: Sequence[Array]) -> None:
        """Write items start to stop into ``blocks``, one array of stop - start rows per item input."""

    def store(self, start: int, stop: int, block: Array) -> None:
        """Take the results of items start to stop, (stop - start, *result_shape)."""

    def result(self) -> Array:
        """The answer, once every item is stored."""


class Split(Protocol):
    """Cuts a request into items; with ``out`` the answer is written there."""

    def __call__(
        self, inputs: Arrays, params: Params, *, item_shape: tuple[int, ...] | None, out: Array | None
    ) -> Items: ...


@dataclass(frozen=True, slots=True)
class ItemForm:
    """How an operation's requests become items and their results the answer.

    Args:
        split: Cuts a request into items and merges the results.
        reference: ``reference(*blocks, **params)``: float64 results of a block of items, from the definition.
        settle: What of a block of item results can reach an answer (a floor, a scale), applied to both
            sides before they are compared; None: all of it.
        params: The parameters as an item kernel gets them, where they differ from the request's
            (defaults that depend on the shapes, resolved); None: unchanged.
        chooses_shape: A kernel may declare an ``item_shape`` of its own.
    """

    split: Split
    reference: Callable[..., NDArray[np.float64]]
    settle: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None
    params: Callable[[Arrays, Params], Params] | None = None
    chooses_shape: bool = False


def convert(array: Array, dtype: np.dtype[Any]) -> Array:
    """The plain conversion: the same values in another dtype."""
    return array.astype(dtype)


def elements(inputs: Arrays, params: Params) -> float:
    """The plain measure of work: elements of the main input."""
    assert inputs[0] is not None
    return float(inputs[0].size)


PRESETS = ("latency", "balanced", "throughput", "single")


@dataclass(frozen=True)
class Operation(Generic[P, R]):
    """A contract that implementations fulfil.

    Args:
        name: What programs ask for.
        version: Changes with anything that changes results, tolerances or probes.
        signature: A function with the operation's signature, types and docstring; it is never run.
            Arrays that every request brings come first; optional ones, parameters and ``out`` by keyword.
        inputs: The arrays, in the order of the signature. The first is the main one: its dtype is what
            ``Capabilities.dtypes`` is about.
        infer: ``infer(*required, **optional_and_params)``: checks shapes, dtypes and parameters of a request
            and returns the result's ``Spec``; raises ``InvalidInput``. It looks at no element.
        reference: ``reference(*required, **optional_and_params)`` in float64, written from the definition.
        probes: ``probes(rng, domain)`` yields the requests of a proof, drawn from the generator.
            The first one is small and telling: it is also run after loading in the serving process.
        tolerance: ``tolerance(kind, inputs, params, expected, accuracy)``; kind is "" for a real request.
        standard: ``standard(rng)``: the workload on which implementations are timed.
        presets: How many items each preset means.
        items: How requests become items; None: only whole kernels.
        converts: For a main dtype, the dtypes that it may be converted to when a kernel does not take it.
        convert: Converts an array for a kernel.
        work: ``work(inputs, params)``: the amount of work in a request, in ``work_unit``.
        work_unit: For reports, "audio seconds" for example.
        reader: "pkg.mod:fn", ``fn(path) -> tuple of inputs``, for the command line.
        plot: "pkg.mod:fn", ``fn(result, path, title=...)``, for the command line.
        description: One line for listings.
    """

    name: str
    version: str
    signature: Callable[P, R]
    inputs: tuple[Input, ...]
    infer: Callable[..., Spec]
    reference: Callable[..., NDArray[np.float64]]
    probes: Callable[[np.random.Generator, Domain], Iterator[Probe]]
    tolerance: Callable[[str, Arrays, Params, NDArray[np.float64], Accuracy], Tolerance]
    standard: Callable[[np.random.Generator], Probe]
    presets: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(PRESETS, 1))
    items: ItemForm | None = None
    converts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    convert: Callable[[Array, np.dtype[Any]], Array] = convert
    work: Callable[[Arrays, Params], float] = elements
    work_unit: str = "elements"
    reader: str | None = None
    plot: str | None = None
    description: str = ""

    @cached_property
    def defaults(self) -> Mapping[str, Any]:
        """The parameters (neither arrays nor ``out``) with their defaults."""
        arrays = {item.name for item in self.inputs}
        return {
            name: parameter.default
            for name, parameter in inspect.signature(self.signature).parameters.items()
            if name not in arrays and name != "out"
        }

    @cached_property
    def required(self) -> tuple[Input, ...]:
        """The inputs that every request brings, by position."""
        return tuple(item for item in self.inputs if not item.optional)

    @cached_property
    def optional(self) -> tuple[Input, ...]:
        """The inputs that a request may bring, by keyword."""
        return tuple(item for item in self.inputs if item.optional)

    def keywords(self, inputs: Arrays, params: Params) -> dict[str, Any]:
        """What goes by keyword to a whole kernel, the reference and ``infer``."""
        arrays = zip(self.optional, inputs[len(self.required) :], strict=True)
        return {item.name: array for item, array in arrays} | dict(params)

    def expect(self, probe: Probe) -> NDArray[np.float64]:
        """The float64 reference's answer to a probe."""
        positional = probe.inputs[: len(self.required)]
        return self.reference(*positional, **self.keywords(probe.inputs, probe.params))
