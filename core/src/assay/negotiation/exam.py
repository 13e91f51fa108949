"""The questions of one run of proofs: an operation's probes, drawn from a seed, and the reference's answers.

Candidates that are proved in one run and declare the same share them, since the reference is dear.
The answers come from the operation's float64 reference alone.
"""

from __future__ import annotations

import contextlib
import importlib
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.contract.capabilities import Accuracy
from assay.contract.errors import InvalidInput
from assay.contract.operation import Array, Domain, Operation, Probe, Spec, Tolerance
from assay.contract.reasons import ReasonCode
from assay.negotiation.domain import CompiledDomain


class ProofFailed(Exception):
    """An implementation is not proved. Carries the reason's code, message and remedy."""

    def __init__(
        self,
        code: ReasonCode,
        message: str,
        remedy: str = "",
        narrower: Sequence[tuple[str, Mapping[str, Any]]] = (),
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.remedy = code, message, remedy
        self.narrower = narrower
        """Declarations that might pass: how they are written, and what they change in ``Capabilities``."""


@dataclass(eq=False)
class Question:
    """A probe and what its result must be."""

    op: Operation[..., Any]
    probe: Probe
    _tolerance: dict[Accuracy, Tolerance] = field(default_factory=dict)

    @cached_property
    def size(self) -> int:
        """Elements of all inputs."""
        return sum(array.size for array in self.probe.inputs if array is not None)

    @cached_property
    def dtype(self) -> str:
        """The main input's."""
        assert self.probe.inputs[0] is not None
        return self.probe.inputs[0].dtype.name

    @cached_property
    def spec(self) -> Spec:
        """What the result is.

        Raises:
            ProofFailed: The operation does not take what the candidate declared.
        """
        op, probe = self.op, self.probe
        try:
            return op.infer(*probe.inputs[: len(op.required)], **op.keywords(probe.inputs, probe.params))
        except InvalidInput as error:
            raise ProofFailed(
                ReasonCode.INVALID_DECLARATION,
                f"it declares what {op.name} does not take: {error}",
                "leave that out of params and dtypes",
            ) from None

    @cached_property
    def expected(self) -> NDArray[np.float64]:
        """The reference's result."""
        return self.op.expect(self.probe)

    def tolerance(self, accuracy: Accuracy) -> Tolerance:
        """What a result may err."""
        if accuracy not in self._tolerance:
            probe = self.probe
            self._tolerance[accuracy] = self.op.tolerance(
                probe.kind, probe.inputs, probe.params, self.expected, accuracy
            )
        return self._tolerance[accuracy]

    @cached_property
    def twin(self) -> Question | None:
        """Other data of the same shapes and kind; None: there is none."""
        inputs = tuple(None if array is None else _turned(array) for array in self.probe.inputs)
        pairs = zip(inputs, self.probe.inputs, strict=True)
        if all(new is None or old is None or np.array_equal(new, old) for new, old in pairs):
            return None
        return Question(self.op, Probe(self.probe.name, inputs, self.probe.params, self.probe.kind))


def _turned(array: Array) -> Array:
    """The same elements in other places, and weaker."""
    rolled = np.roll(array, 3 if array.size > 3 else 1)
    if array.dtype.kind in "iu":
        return rolled // 2
    return rolled if array.dtype.kind == "b" else rolled * np.asarray(0.75, array.dtype)


@dataclass(frozen=True)
class _OneDtype:
    """A domain narrowed to one dtype, so that candidates that share the dtype share its questions."""

    domain: Domain
    dtype: str

    @property
    def dtypes(self) -> tuple[str, ...]:
        return (self.dtype,)

    def values(self, param: str, usual: Sequence[Any]) -> tuple[Any, ...]:
        return self.domain.values(param, usual)


@dataclass
class Exam:
    """The questions of one run.

    Args:
        seed: What everything is drawn from; by default one that nothing could have been tuned to.
        alone: Nothing else computes in this process meanwhile.
    """

    seed: int = field(default_factory=lambda: secrets.randbits(63))
    alone: bool = False
    _asked: dict[Any, list[Question]] = field(default_factory=dict, repr=False)
    _standard: dict[int, Question] = field(default_factory=dict, repr=False)

    def quiet(self) -> contextlib.AbstractContextManager[Any]:
        """Keeps the BLAS to one thread, where this process is free to: probes are small, and a second thread
        costs more than it brings, most of all on a busy machine."""
        if self.alone:
            with contextlib.suppress(ImportError):
                limits = importlib.import_module("threadpoolctl").threadpool_limits
                return limits(1, "blas")  # type: ignore[no-any-return]  # it has no types
        return contextlib.nullcontext()

    def questions(self, op: Operation[..., Any], domain: CompiledDomain) -> Iterator[Question]:
        """The questions that lie in a candidate's domain, as they are drawn."""
        params = repr(sorted((name, sorted(map(repr, v))) for name, v in domain.capabilities.params.items()))
        for dtype in domain.dtypes:
            key = (id(op), dtype, params)
            if key in self._asked:
                yield from (question for question in self._asked[key] if admits(domain, question.probe))
                continue
            drawn = []
            rng = np.random.default_rng([self.seed, *dtype.encode()])
            for probe in op.probes(rng, _OneDtype(domain, dtype)):
                drawn.append(Question(op, probe))
                if admits(domain, probe):
                    yield drawn[-1]
            self._asked[key] = drawn

    def standard(self, op: Operation[..., Any]) -> Question:
        """The workload on which implementations are timed."""
        if id(op) not in self._standard:
            self._standard[id(op)] = Question(op, op.standard(np.random.default_rng(self.seed)))
        return self._standard[id(op)]


def admits(domain: CompiledDomain, probe: Probe) -> bool:
    """Whether a probe lies in a declared domain.

    Raises:
        ProofFailed: The shapes predicate raised.
    """
    assert probe.inputs[0] is not None
    try:
        return domain.refuses(probe.inputs[0].dtype.name, probe.inputs, probe.params) is None
    except Exception as error:
        raise ProofFailed(
            ReasonCode.INVALID_DECLARATION,
            f"its shapes predicate raised {type(error).__name__}: {error}, for probe {probe.name!r}",
            "a predicate returns True or a sentence for every request of the operation",
        ) from error
