"""The gate: runs an implementation over its operation's probes and certifies what it measured.

The same probes and the same comparison serve negotiation, ``assay prove``, the pytest kit,
re-admission after quarantine and the check after loading. A kernel is taken to be hostile; docs/proof.md
says what is probed, why, and what no probe can show.
"""

from __future__ import annotations

import contextlib
import datetime
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.contract.candidate import Certificate, Measurement
from assay.contract.operation import Array, Arrays, Probe
from assay.contract.reasons import ReasonCode
from assay.negotiation.advice import Outcome, narrower
from assay.negotiation.blocks import ELEMENTS, Pool, between, lengths, pools
from assay.negotiation.compare import Comparison, compare
from assay.negotiation.exam import Exam, ProofFailed, Question, admits
from assay.negotiation.kernel import Kernel
from assay.negotiation.witness import LARGE, Witness, Wrong, raised

__all__ = ["Exam", "ProofFailed", "measure", "prove", "prove_once"]

ENOUGH = 3
"""Questions with a result to compare, below which a domain is too narrow to prove anything."""

REPEATED = 0.25
"""The share of small questions that are asked as A, B, A with B other data of the same shape."""

CALLS, CALLS_S = 256, 0.04
"""How often, and for how long, one question and its twin are asked in random order."""

TRACED = 10
"""Calls of each thread in which every line of Python lets the other threads run."""

THREADS, THREADS_S, THREAD_SIZES = 4, 0.02, (700, 6000)
"""How many threads call at a time, for how long each, and how large what they ask for is."""

TAILS_S = 0.03
"""How long blocks of other lengths than must be proved are run, where any length is declared."""

SPOTS_S = 0.02
"""How long a non-finite value is put in one place of an input after the other."""

FIRST_FIGURE_S = 0.02
SLOW_S = 0.1
"""Seconds for the standard workload beyond which it is asked only once."""


@dataclass(slots=True)
class _Gate:
    """The state of one proof."""

    kernel: Kernel
    rng: np.random.Generator
    witness: Witness
    measurements: list[Measurement] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    last: Array | None = None
    """The result of the call before, to recognise it in the next one."""

    @contextlib.contextmanager
    def trial(self, question: Question, block: int = 0, flag: str = "") -> Iterator[None]:
        """Whatever the kernel does wrong in here is held against it, and the proof goes on."""
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
        with _said(when):
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
            raise Wrong(comparison.wrong)

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
def _said(when: str) -> Iterator[None]:
    """What goes wrong in here is told with the circumstances in front."""
    try:
        yield
    except Wrong as wrong:
        wrong.what = when + wrong.what
        raise


def prove(kernel: Kernel, seed: int | None = None, exam: Exam | None = None) -> Certificate:
    """Run the whole proof.

    Args:
        kernel: A loaded implementation.
        seed: What the probes are drawn from; None: one that nothing could have been tuned to.
        exam: Questions that other candidates of this run share; it has a seed of its own.

    Raises:
        ProofFailed: With the probe that caught it.
    """
    exam = exam or (Exam() if seed is None else Exam(seed))
    gate = _open(kernel, exam.seed)
    with exam.quiet():
        questions = list(exam.questions(kernel.op, kernel.domain))
        _check_coverage(kernel, questions)
        for stage in (_each, _blocks, _repeats, _strided, _non_finite, _threads):
            stage(gate, questions)
            gate.judge()
        standard = exam.standard(kernel.op)
        timed = admits(kernel.domain, standard.probe)
        if timed:
            _standard(gate, standard)
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
    gate = _open(kernel, exam.seed)
    for question in exam.questions(kernel.op, kernel.domain):
        _each(gate, [question])
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


def _open(kernel: Kernel, seed: int) -> _Gate:
    rng = np.random.default_rng([seed, 1])
    return _Gate(kernel, rng, Witness(rng, kernel.gives_out))


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


def _each(gate: _Gate, questions: Sequence[Question]) -> None:
    """Every question, and with many of them another of the same shape in between."""
    for index, question in enumerate(questions):
        small = question.size <= LARGE
        with gate.trial(question):
            if index and not (small and gate.rng.random() < REPEATED):
                gate.ask(question, read_only=bool(gate.rng.random() < 0.3))
                continue
            first = gate.ask(question)
            if question.twin is not None:
                gate.ask(question.twin, "other data in the same array: ", in_place=True)
            second = gate.ask(question, "the same input again: ", read_only=True)
            with _said("the same input gives different outputs: "):
                gate.compare(question, second, first.astype(np.float64))


def _blocks(gate: _Gate, questions: Sequence[Question]) -> None:
    """At item level: every declared block length, every slot with data of its own, wherever it stands."""
    kernel, rng = gate.kernel, gate.rng
    if kernel.whole:
        return
    pairs = [(pool, size) for pool in pools(kernel, questions, rng) for size in lengths(kernel)]
    proved: set[Any] = set()
    left = ELEMENTS
    for pool, size in [pairs[i] for i in rng.permutation(len(pairs))]:
        key = size, pool.sources[0].dtype, *(pool.params[name] for name in kernel.capabilities.params)
        if key not in proved or pool.elements * size <= left:
            proved.add(key)
            left -= pool.elements * size
            _block(gate, pool, size)
    end = time.perf_counter() + TAILS_S
    for size in between(kernel.capabilities.batch_sizes, kernel.plan.batch_size, rng):
        if pairs and time.perf_counter() < end:
            _block(gate, pairs[int(rng.integers(len(pairs)))][0], size)


def _block(gate: _Gate, pool: Pool, size: int) -> None:
    rows = pool.pick(gate.rng, size)
    with gate.trial(pool.sources[rows[0]], block=size), _said(f"block of {size}: "):
        forward = _ask_block(gate, pool, rows)
        backward = _ask_block(gate, pool, rows[::-1], in_place=True)[::-1]
        with _said("a slot's result depends on where it stands: "):
            gate.note(pool.compare(rows, backward, forward))
        if (least := lengths(gate.kernel)[0]) < size:
            alone = _ask_block(gate, pool, rows[:least])
            with _said(f"differs from a block of {least}: "):
                gate.note(pool.compare(rows[:least], forward[:least], alone))


def _ask_block(gate: _Gate, pool: Pool, rows: NDArray[np.intp], **how: bool) -> NDArray[np.float64]:
    """One guarded call of an item kernel, compared with the reference."""
    blocks = tuple(np.ascontiguousarray(block[rows]) for block in pool.blocks)
    shape, dtype = pool.expected[rows].shape, blocks[0].dtype
    answer = gate.witness.call(
        lambda inputs, out: gate.kernel.run_block(inputs, pool.params, shape, dtype, out),  # type: ignore[arg-type]  # blocks are never None
        blocks,
        shape,
        dtype,
        **how,
    )
    settled = pool.settle(answer)
    gate.note(pool.compare(rows, settled, pool.expected[rows]))
    return settled


def _repeats(gate: _Gate, questions: Sequence[Question]) -> None:
    """One question and its twin many times in random order, every result held until the end."""
    question = next((q for q in questions if q.twin is not None and q.size <= LARGE), None)
    if question is None or question.twin is None:
        return
    pair = [(one, _copies(one)) for one in (question, question.twin)]
    calls = min(CALLS, ELEMENTS // max(1, question.expected.size))
    held: list[tuple[Question, Array]] = []
    with gate.trial(question), _said("called many times: "):
        end = time.perf_counter() + CALLS_S
        while len(held) < 8 or (len(held) < calls and time.perf_counter() < end):
            one, inputs = pair[int(gate.rng.integers(2))]
            held.append((one, _serve(gate.kernel, one, inputs)))
        gate.compare_all(held)


def _strided(gate: _Gate, questions: Sequence[Question]) -> None:
    """A kernel that takes what the caller has must read any strides and any alignment rightly."""
    if not gate.kernel.capabilities.strided:
        return
    small = [question for question in questions if 0 < question.size <= LARGE]
    deep = sorted(small, key=lambda question: -max(a.ndim for a in question.probe.inputs if a is not None))
    for question in {id(q): q for q in (*small[:ENOUGH], *deep[:ENOUGH])}.values():
        for name, change in _LAYOUTS.items():
            inputs = tuple(None if array is None else change(array) for array in question.probe.inputs)
            with gate.trial(question, flag="strided"), _said(f"{name} input: "):
                gate.compare(question, _serve(gate.kernel, question, inputs))


def _spread(array: Array) -> Array:
    wide = np.full([2 * n for n in array.shape], 7, array.dtype)
    every_other = tuple(slice(None, None, 2) for _ in array.shape)
    wide[every_other] = array
    return wide[every_other]


def _backwards(array: Array) -> Array:
    turned = tuple(slice(None, None, -1) for _ in array.shape)
    return np.ascontiguousarray(array[turned])[turned]


def _misaligned(array: Array) -> Array:
    if not array.nbytes:
        return array
    view = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


_LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "strided": _spread,
    "reversed": _backwards,
    "misaligned": _misaligned,
    "Fortran-ordered": np.asfortranarray,
}


def _non_finite(gate: _Gate, questions: Sequence[Question]) -> None:
    """Non-finite values never crash a kernel or stay in it; one that says it notices them notices each."""
    noticed = gate.kernel.capabilities.checks_finite
    floats = [q for q in questions if 0 < q.size <= LARGE and q.dtype.startswith(("float", "bfloat"))]
    for index, question in enumerate(sorted(floats, key=lambda q: q.size)):
        for place, item in enumerate(gate.kernel.op.inputs):
            array = question.probe.inputs[place]
            if array is None or not array.size or array.dtype.kind not in "fV":
                continue
            must_notice = noticed and item.finite
            if index > 1 and not must_notice:
                continue
            end = time.perf_counter() + (SPOTS_S if must_notice and index < 4 else 0.0)
            for turn, spot in enumerate([0, array.size - 1, *gate.rng.permutation(array.size)]):
                value = (np.nan, np.inf, -np.inf)[(index + turn) % 3]
                with gate.trial(question, flag="checks_finite" * must_notice):
                    _meet(gate, question, place, spot, value, must_notice)
                if turn > 1 and time.perf_counter() > end:
                    break
    with gate.trial(questions[0]):
        gate.ask(questions[0], "after a non-finite input: ")


def _meet(gate: _Gate, question: Question, place: int, spot: int, value: float, must_notice: bool) -> None:
    """One call with a non-finite value: the defined result or an exception."""
    inputs = _copies(question)
    inputs[place].flat[spot] = value  # type: ignore[union-attr]  # it is this array's copy
    what = f"{value} at {spot} of {question.op.inputs[place].name}"
    try:
        gate.kernel.serve(inputs, question.probe.params, question.spec)
    except FloatingPointError:
        return
    except (Exception, SystemExit) as error:  # noqa: BLE001  # a kernel may raise anything
        if must_notice or isinstance(error, SystemExit):
            raise raised(error, f"for {what}: ") from None
        return
    if must_notice:
        raise Wrong(f"did not notice {what}")


def _threads(gate: _Gate, questions: Sequence[Question]) -> None:
    """Calls from several threads at a time do not disturb each other, those of one shape least of all.

    What an opener returned gets one call at a time, but not always from the thread that opened it.
    """
    kernel = gate.kernel
    stateless = kernel.implementation.kernel is not None
    together = stateless or kernel.capabilities.thread_safe
    when = "called from several threads: " if together else "called from another thread: "
    small = [question for question in questions if question.size <= LARGE and question.twin is not None]
    # NumPy lets other threads run inside its loops over some hundred elements; smaller ones take more turns.
    chosen = {id(q): q for n in THREAD_SIZES for q in sorted(small, key=lambda q: abs(q.size - n))[:1]}
    for question in chosen.values():
        pair = [(one, _copies(one)) for one in (question, question.twin) if one is not None]
        with gate.trial(question, flag="" if stateless else "thread_safe"), _said(when):
            gate.compare_all(_call_together(gate, pair, THREADS if together else 1))


def _call_together(
    gate: _Gate, pair: Sequence[tuple[Question, Arrays]], count: int
) -> list[tuple[Question, Array]]:
    """The answers that several threads get to one question and its twin.

    Raises:
        Wrong: A call raised.
    """
    answers: list[tuple[Question, Array]] = []
    failed: list[Wrong] = []
    barrier = threading.Barrier(count)
    most = min(CALLS, ELEMENTS // (count * max(1, pair[0][0].expected.size)))

    start = time.perf_counter()

    def give_way(frame: Any, event: str, arg: Any) -> Any:
        """Let the others run after every line of Python, for a while."""
        if time.perf_counter() > start + 10 * THREADS_S or frame.f_globals.get("__name__", "").startswith(
            "assay."
        ):
            return None
        time.sleep(1e-6)
        return give_way

    def work(first: int) -> None:
        barrier.wait()
        calls = 0
        while calls < 2 or time.perf_counter() < start + THREADS_S * (10 if calls < TRACED else calls < most):
            question, inputs = pair[(first + calls) % len(pair)]
            calls += 1
            sys.settrace(give_way if calls < TRACED else None)
            try:
                answers.append((question, _serve(gate.kernel, question, inputs)))
            except Wrong as wrong:
                failed.append(wrong)

    # Threads of their own also leave alone whatever traces this one.
    threads = [threading.Thread(target=work, args=(first,), daemon=True) for first in range(count)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # so that they interrupt each other anywhere
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    if failed:
        raise failed[0]
    return answers


def _standard(gate: _Gate, question: Question) -> None:
    """The workload on which implementations are timed: it must be done, too."""
    with gate.trial(question):
        start = time.perf_counter()
        first = gate.call(question)
        slow = time.perf_counter() - start > SLOW_S
        gate.compare(question, first)
        if slow:
            return
        if question.twin is not None and np.array_equal(first, gate.call(question.twin)):
            raise Wrong("other data of the same shape gives the very same result")
        if not np.array_equal(first, again := gate.call(question)):
            with _said("the same input again: "):
                gate.compare(question, again)


def _copies(question: Question) -> Arrays:
    return tuple(None if array is None else array.copy() for array in question.probe.inputs)


def _serve(kernel: Kernel, question: Question, inputs: Arrays) -> Array:
    """One plain call.

    Raises:
        Wrong: It raised.
    """
    try:
        return kernel.serve(inputs, question.probe.params, question.spec)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # a kernel may raise anything
        raise raised(error) from None


def _worst_by_probe(measurements: Sequence[Measurement]) -> Iterator[Measurement]:
    worst: dict[str, Measurement] = {}
    for one in measurements:
        if one.probe not in worst or one.share > worst[one.probe].share:
            worst[one.probe] = one
    yield from worst.values()
