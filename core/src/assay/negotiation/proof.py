"""The gate: runs an implementation over its operation's probes and certifies what it measured.

The same probes and the same comparison serve negotiation, ``assay prove``, the pytest kit,
re-admission after quarantine and the check after loading. A kernel is taken to be hostile; docs/proof.md
says what is probed, why, and what no probe can show.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator, Sequence

import numpy as np

from assay.contract.candidate import Certificate, Measurement
from assay.contract.operation import Probe
from assay.contract.reasons import ReasonCode
from assay.negotiation import trials
from assay.negotiation.exam import Exam, ProofFailed, Question, admits
from assay.negotiation.gate import Gate
from assay.negotiation.kernel import Kernel

__all__ = ["Exam", "ProofFailed", "measure", "prove", "prove_once"]

ENOUGH = 3
"""Questions with a result to compare, below which a domain is too narrow to prove anything."""

FIRST_FIGURE_S = 0.02
"""How long the standard workload is timed."""

STAGES = (
    trials.each,
    trials.blocks,
    trials.repeats,
    trials.strided,
    trials.non_finite,
    trials.threads,
)


def prove(
    kernel: Kernel,
    seed: int | None = None,
    exam: Exam | None = None,
    until: float = float("inf"),
) -> Certificate:
    """Run the whole proof.

    Args:
        kernel: A loaded implementation.
        seed: What the probes are drawn from; None: one that nothing could have been tuned to.
        exam: Questions that other candidates of this run share; it has a seed of its own.
        until: When to give up, on the performance counter.

    Raises:
        ProofFailed: With the probe that caught it.
    """
    exam = exam or (Exam() if seed is None else Exam(seed))
    gate = Gate(kernel, np.random.default_rng([exam.seed, 1]))
    gate.until = until
    with exam.quiet(), kernel.compared():
        questions = list(exam.questions(kernel.op, kernel.domain))
        _check_coverage(kernel, questions)
        for stage in STAGES:
            stage(gate, questions)
            gate.judge()
        standard = exam.standard(kernel.op)
        timed = admits(kernel.domain, standard.probe)
        if timed:
            trials.standard(gate, standard)
            gate.judge()
    seconds = measure(kernel, standard.probe) if timed else None
    with gate.trial(questions[0]):
        gate.witness.look_back()
    gate.judge()
    return Certificate(
        id=kernel.implementation.id,
        seed=exam.seed,
        accuracy=kernel.capabilities.accuracy,
        measurements=tuple(_worst_by_probe(gate.measurements)),
        seconds=seconds,
        made=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def prove_once(kernel: Kernel, seed: int | None = None) -> None:
    """Run the first probe only: after loading in the process that serves.

    Raises:
        ProofFailed: It is not what its certificate says.
    """
    exam = Exam() if seed is None else Exam(seed)
    gate = Gate(kernel, np.random.default_rng([exam.seed, 1]))
    with kernel.compared():
        for question in exam.questions(kernel.op, kernel.domain):
            trials.each(gate, [question])
            break
    gate.judge()


def measure(kernel: Kernel, probe: Probe, spent_s: float = FIRST_FIGURE_S) -> float:
    """Seconds for one request: the least of as many calls as fit in so long, of one at least."""
    spec = Question(kernel.op, probe).spec
    inputs = tuple(None if array is None else array.copy() for array in probe.inputs)
    out = np.empty(spec.shape, spec.dtype) if kernel.gives_out else None
    best, end = float("inf"), time.perf_counter() + spent_s
    while best == float("inf") or time.perf_counter() < end:
        start = time.perf_counter()
        kernel.serve(inputs, probe.params, spec, out)
        best = min(best, time.perf_counter() - start)
    return best


def _check_coverage(kernel: Kernel, questions: Sequence[Question]) -> None:
    """Every declared dtype and parameter value must be met by a probe that has something to compare."""
    capabilities, op = kernel.capabilities, kernel.op
    telling = [question for question in questions if 0 not in question.spec.shape]
    if len(telling) < ENOUGH:
        raise ProofFailed(
            ReasonCode.UNPROVABLE,
            f"only {len(telling)} of the probes of {op.name} lie in its declared domain; {ENOUGH} are needed",
            "declare a wider domain: shapes, params or dtypes",
        )
    missing = set(capabilities.dtypes - {question.dtype for question in telling})
    for name, declared in capabilities.params.items():
        met = {question.probe.params[name] for question in telling}
        missing |= {f"{name}={value!r}" for value in declared if value not in met}
    if missing:
        raise ProofFailed(
            ReasonCode.UNPROVABLE,
            f"no probe of {op.name} covers {', '.join(sorted(missing))}, which it declares",
            f"leave {', '.join(sorted(missing))} out of the declaration",
        )


def _worst_by_probe(measurements: Sequence[Measurement]) -> Iterator[Measurement]:
    worst: dict[str, Measurement] = {}
    for one in measurements:
        if one.probe not in worst or one.share > worst[one.probe].share:
            worst[one.probe] = one
    yield from worst.values()
