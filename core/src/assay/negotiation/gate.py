"""The state of one proof: asks a kernel questions, compares, and keeps what it found."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from assay.contract.candidate import Measurement
from assay.contract.operation import Array
from assay.contract.reasons import ReasonCode
from assay.negotiation.advice import Outcome, narrower
from assay.negotiation.compare import Comparison, compare
from assay.negotiation.exam import ProofFailed, Question
from assay.negotiation.kernel import Kernel
from assay.negotiation.witness import Witness, Wrong


@dataclass(slots=True)
class Gate:
    """The state of one proof."""

    kernel: Kernel
    rng: np.random.Generator
    witness: Witness = field(init=False)
    measurements: list[Measurement] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    last: Array | None = None
    """The result of the call before, to recognise it in the next one."""
    until: float = float("inf")
    """When the proof is given up."""

    def __post_init__(self) -> None:
        self.witness = Witness(self.rng, self.kernel.gives_out)

    @contextlib.contextmanager
    def trial(self, question: Question, block: int = 0, flag: str = "") -> Iterator[None]:
        """Whatever the kernel does wrong in here is held against it, and the proof goes on."""
        if time.perf_counter() > self.until:
            raise ProofFailed(ReasonCode.TIMED_OUT, "the proof took too long")
        outcome = Outcome(question, block, flag)
        self.outcomes.append(outcome)
        try:
            yield
        except Wrong as wrong:
            outcome.wrong, outcome.advice, outcome.code = wrong.what, wrong.advice, wrong.code

    def ask(self, question: Question, when: str = "", **how: bool) -> Array:
        """One guarded call, compared with the reference; returns a private copy of the result.

        Raises:
            Wrong: It is not what it should be.
        """
        with said(when):
            answer = self.call(question, **how)
            self.compare(question, answer)
        self.last = answer
        return answer

    def call(self, question: Question, **how: bool) -> Array:
        """One guarded call; returns a private copy of the result.

        Raises:
            Wrong: The call broke the contract.
        """
        probe, spec = question.probe, question.spec
        return self.witness.call(
            lambda inputs, out: self.kernel.serve(inputs, probe.params, spec, out),
            probe.inputs,
            spec.shape,
            spec.dtype,
            **how,
        )

    def compare(self, question: Question, answer: Array, with_: NDArray[np.float64] | None = None) -> None:
        """Hold a result against the reference's, or against another of the kernel's own.

        Raises:
            Wrong: They are too far apart.
        """
        expected = question.expected if with_ is None else with_
        limit = question.tolerance(self.kernel.capabilities.accuracy)
        self.note(compare(question.probe.name, answer, expected, limit, self.last))

    def compare_all(self, answers: Iterable[tuple[Question, Array]]) -> None:
        """Hold many results against the reference's; one that was seen and found right need not be again.

        Raises:
            Wrong: One is too far from it.
        """
        right: dict[Question, Array] = {}
        for question, answer in answers:
            if question not in right or not np.array_equal(right[question], answer):
                self.compare(question, answer)
                right[question] = answer

    def note(self, comparison: Comparison) -> None:
        """Keep a measured error.

        Raises:
            Wrong: It is too large.
        """
        self.measurements.append(comparison.measurement)
        if comparison.wrong:
            raise Wrong(comparison.wrong + self.kernel.seen())

    def judge(self) -> None:
        """Raise for the first question that failed, with the declarations that might have passed."""
        failed = [outcome for outcome in self.outcomes if outcome.wrong]
        if not failed:
            return
        first, id = failed[0], self.kernel.implementation.id
        params = [f"{name}={value!r}" for name, value in first.question.probe.params.items()]
        terms = ", ".join([first.question.dtype, *params])
        raise ProofFailed(
            first.code,
            f"probe {first.question.probe.name!r} ({terms}): {first.wrong}",
            first.advice or f"mend the kernel, then run: assay prove {id}",
            () if first.advice else narrower(self.kernel, self.outcomes),
        )


@contextlib.contextmanager
def said(when: str) -> Iterator[None]:
    """What goes wrong in here is told with the circumstances in front."""
    try:
        yield
    except Wrong as wrong:
        wrong.what = when + wrong.what
        raise
