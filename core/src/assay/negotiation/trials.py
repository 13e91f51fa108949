"""The stages of a proof: each puts a kernel to one kind of test. docs/proof.md says why."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.contract.operation import Array, Arrays
from assay.negotiation.blocks import ELEMENTS, Pool, between, lengths, pools
from assay.negotiation.exam import Question
from assay.negotiation.gate import Gate, said
from assay.negotiation.kernel import Kernel
from assay.negotiation.witness import LARGE, Wrong, raised

REPEATED = 0.25
"""The share of small questions that are asked as A, B, A with B other data of the same shape."""

CALLS, CALLS_S = 256, 0.04
"""How often, and for how long, one question and its twin are asked in random order."""

TRACED, TRACED_S, STOPS_S = 24, 0.5, 2.0
"""Calls of each thread that stop at the kernel's lines of Python for others to overtake, the processor's
time that all of them take together, and how long they go on."""

HELD, HELD_S, VISITS = 2, 0.25, 64
"""How many times threads stop at one line until another has done a whole call, for how long at most, and
in how many calls of one function."""

LIBRARIES = ("assay.", "numpy.")
"""Whose lines nobody stops at: they are not the kernel's."""

THREADS, THREADS_S, THREAD_SIZES = 4, 0.02, (700, 6000)
"""How many threads call at a time, for how long each, and how large what they ask for is."""

TAILS_S = 0.03
"""How long blocks of other lengths than must be proved are run, where any length is declared."""

SPOTS_S = 0.02
"""How long a non-finite value is put in one place of an input after the other."""

SLOW_S = 0.1
"""Seconds for the standard workload beyond which it is asked only once."""


def each(gate: Gate, questions: Sequence[Question]) -> None:
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
            with said("the same input gives different outputs: "):
                gate.compare(question, second, first.astype(np.float64))


def blocks(gate: Gate, questions: Sequence[Question]) -> None:
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


def _block(gate: Gate, pool: Pool, size: int) -> None:
    rows = pool.pick(gate.rng, size)
    with gate.trial(pool.sources[rows[0]], block=size), said(f"block of {size}: "):
        forward = _ask_block(gate, pool, rows)
        backward = _ask_block(gate, pool, rows[::-1], in_place=True)[::-1]
        with said("a slot's result depends on where it stands: "):
            gate.note(pool.compare(rows, backward, forward))
        if (least := lengths(gate.kernel)[0]) < size:
            alone = _ask_block(gate, pool, rows[:least])
            with said(f"differs from a block of {least}: "):
                gate.note(pool.compare(rows[:least], forward[:least], alone))


def _ask_block(gate: Gate, pool: Pool, rows: NDArray[np.intp], **how: bool) -> NDArray[np.float64]:
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


def repeats(gate: Gate, questions: Sequence[Question]) -> None:
    """One question and its twin many times in random order, every result held until the end."""
    question = next((q for q in questions if q.twin is not None and q.size <= LARGE), None)
    if question is None or question.twin is None:
        return
    pair = [(one, _copies(one)) for one in (question, question.twin)]
    calls = min(CALLS, ELEMENTS // max(1, question.expected.size))
    held: list[tuple[Question, Array]] = []
    with gate.trial(question), said("called many times: "):
        end = time.perf_counter() + CALLS_S
        while len(held) < 8 or (len(held) < calls and time.perf_counter() < end):
            one, inputs = pair[int(gate.rng.integers(2))]
            held.append((one, _serve(gate.kernel, one, inputs)))
        gate.compare_all(held)


def strided(gate: Gate, questions: Sequence[Question]) -> None:
    """A kernel that takes what the caller has must read any strides and any alignment rightly."""
    if not gate.kernel.capabilities.strided:
        return
    small = [question for question in questions if 0 < question.size <= LARGE]
    deep = sorted(small, key=lambda question: -max(a.ndim for a in question.probe.inputs if a is not None))
    for question in {id(q): q for q in (*small[:3], *deep[:3])}.values():
        for name, change in _LAYOUTS.items():
            inputs = tuple(None if array is None else change(array) for array in question.probe.inputs)
            with gate.trial(question, flag="strided"), said(f"{name} input: "):
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


def non_finite(gate: Gate, questions: Sequence[Question]) -> None:
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


def _meet(gate: Gate, question: Question, place: int, spot: int, value: float, must_notice: bool) -> None:
    """One call with a non-finite value: the defined result or an exception."""
    inputs = _copies(question)
    inputs[place].flat[spot] = value  # type: ignore[union-attr]  # it is this array's copy
    what = f"{value} at {spot} of {question.op.inputs[place].name}"
    try:
        with np.errstate(all="ignore"):
            gate.kernel.serve(inputs, question.probe.params, question.spec)
    except FloatingPointError:
        return
    except (Exception, SystemExit) as error:  # noqa: BLE001  # a kernel may raise anything
        if must_notice or isinstance(error, SystemExit):
            raise raised(error, f"for {what}: ") from None
        return
    if must_notice:
        raise Wrong(f"did not notice {what}")


def threads(gate: Gate, questions: Sequence[Question]) -> None:
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
        with gate.trial(question, flag="" if stateless else "thread_safe"), said(when):
            gate.compare_all(_call_together(gate, pair, THREADS if together else 1))


def _call_together(
    gate: Gate, pair: Sequence[tuple[Question, Arrays]], count: int
) -> list[tuple[Question, Array]]:
    """The answers that several threads get to one question and its twin.

    Raises:
        Wrong: A call raised.
    """
    answers: list[tuple[Question, Array]] = []
    failed: list[Wrong] = []
    barrier = threading.Barrier(count)
    most = min(CALLS, ELEMENTS // (count * max(1, pair[0][0].expected.size)))

    traced, stopped = set(range(count)), set[int]()
    held: Counter[tuple[Any, int]] = Counter()

    def work(first: int) -> None:
        barrier.wait()
        start, spent, calls = time.perf_counter(), time.process_time() + TRACED_S, 0

        def stop(frame: Any, event: str, arg: Any) -> Any:
            """Before a line that nobody has stopped at: let another thread do a whole call meanwhile."""
            line = frame.f_code, frame.f_lineno
            late = time.process_time() > spent or time.perf_counter() > start + STOPS_S
            if late or frame.f_globals.get("__name__", "").startswith(LIBRARIES):
                return None
            if event == "call":
                held[frame.f_code, 0] += 1
                return stop if held[frame.f_code, 0] <= VISITS else None
            if held[line] < HELD and len(stopped | {first}) < len(traced):
                stopped.add(first)
                # When so many calls have ended, one of them has begun after this stop.
                enough, end = len(answers) + count, time.perf_counter() + HELD_S
                while len(answers) < enough and len(stopped) < len(traced) and time.perf_counter() < end:
                    time.sleep(1e-6)
                stopped.discard(first)
                held[line] += 1
            return stop

        while calls < most:
            tracing = calls < TRACED and time.process_time() < spent and time.perf_counter() < start + STOPS_S
            if calls > 1 and not tracing and time.perf_counter() > start + THREADS_S:
                break
            if calls == TRACED:
                traced.discard(first)
            question, inputs = pair[(first + calls) % len(pair)]
            calls += 1
            sys.settrace(stop if tracing else None)
            try:
                answers.append((question, _serve(gate.kernel, question, inputs)))
            except Wrong as wrong:
                failed.append(wrong)
        traced.discard(first)

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


def standard(gate: Gate, question: Question) -> None:
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
            with said("the same input again: "):
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
