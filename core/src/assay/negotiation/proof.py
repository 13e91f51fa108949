"""The gate: runs an implementation over its operation's probes and certifies what it measured.

The same probes and the same comparison serve negotiation, ``assay prove``, the pytest kit,
re-admission after quarantine and the check after loading. A kernel is taken to be hostile: inputs are drawn
anew from the seed, outputs are filled with NaN beforehand, calls repeat with other data of the same shape,
and every slot of a block holds data of its own.
"""

from __future__ import annotations

import datetime
import secrets
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.contract.candidate import Certificate, Measurement
from assay.contract.capabilities import Accuracy
from assay.contract.operation import Array, Arrays, Operation, Params, Probe, Spec
from assay.contract.reasons import ReasonCode
from assay.negotiation.compare import compare
from assay.negotiation.kernel import BadResult, Kernel

REVISION = "1"
"""Changes with anything in this module that could change a verdict."""

ENOUGH = 3
"""Probes with a result to compare, below which a domain is too narrow to prove anything."""

SMALL = 65_536
"""Elements of input up to which a probe is repeated with other data; larger ones run once."""

TIMING_BUDGET_S = 0.15
THREADS = 4


class ProofFailed(Exception):
    """An implementation is not proved. Carries the reason's code, message and remedy."""

    def __init__(self, code: ReasonCode, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.remedy = code, message, remedy


@dataclass(slots=True)
class _Outcome:
    """How one probe went. ``wrong`` is empty when it passed."""

    probe: Probe
    dtype: str
    wrong: str = ""
    code: ReasonCode = ReasonCode.INACCURATE
    advice: str = ""


@dataclass(slots=True)
class _Gate:
    """The state of one proof."""

    kernel: Kernel
    rng: np.random.Generator
    measurements: list[Measurement] = field(default_factory=list)
    outcomes: list[_Outcome] = field(default_factory=list)
    last: Array | None = None
    """The result of the call before, as the kernel returned it."""
    kept: Array | None = None
    """A private copy of it, to see that later calls leave it alone."""

    @property
    def op(self) -> Operation[..., Any]:
        return self.kernel.op

    @property
    def accuracy(self) -> Accuracy:
        return self.kernel.capabilities.accuracy


def draw_seed() -> int:
    """A seed that nothing could have been tuned to."""
    return secrets.randbits(63)


def prove(kernel: Kernel, seed: int | None = None) -> Certificate:
    """Run the whole proof.

    Raises:
        ProofFailed: With the probe that caught it and, where one exists, the narrower declaration
            that would have passed.
    """
    seed = draw_seed() if seed is None else seed
    rng = np.random.default_rng(seed)
    gate = _Gate(kernel, rng)
    probes = _admitted(kernel, kernel.op.probes(rng, kernel.domain))
    _check_coverage(kernel, probes)
    for probe in probes:
        _run_probe(gate, probe)
    _judge(gate)
    for probe in [probes[0], probes[int(rng.integers(len(probes)))]]:
        _run_probe(gate, probe, again="run again at the end: ")
    if not kernel.whole:
        _run_blocks(gate, probes)
    if kernel.capabilities.strided:
        _run_strided(gate, probes)
    if kernel.capabilities.checks_finite:
        _run_non_finite(gate, probes)
    if kernel.implementation.kernel is not None or kernel.capabilities.thread_safe:
        _run_threads(gate, probes)
    _judge(gate)
    return Certificate(
        id=kernel.implementation.id,
        seed=seed,
        accuracy=gate.accuracy,
        measurements=tuple(_worst_by_probe(gate.measurements)),
        seconds=measure(kernel, np.random.default_rng(seed)),
        made=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def prove_once(kernel: Kernel, seed: int | None = None) -> None:
    """Run the first probe only: after loading in the process that serves.

    Raises:
        ProofFailed: It is not what its certificate says.
    """
    rng = np.random.default_rng(draw_seed() if seed is None else seed)
    gate = _Gate(kernel, rng)
    for probe in kernel.op.probes(rng, kernel.domain):
        if _admits(kernel, probe):
            _run_probe(gate, probe)
            break
    _judge(gate)


def measure(kernel: Kernel, rng: np.random.Generator, probe: Probe | None = None) -> float | None:
    """Seconds for a request of the standard workload, the best of several; None: outside its domain."""
    probe = kernel.op.standard(rng) if probe is None else probe
    if not _admits(kernel, probe):
        return None
    spec = _infer(kernel.op, probe)
    out = np.empty(spec.shape, spec.dtype) if kernel.gives_out else None
    best, spent, repeats = float("inf"), 0.0, 0
    while repeats < 3 or (spent < TIMING_BUDGET_S and repeats < 50):
        start = time.perf_counter()
        kernel.serve(probe.inputs, probe.params, spec, out)
        seconds = time.perf_counter() - start
        best, spent, repeats = min(best, seconds), spent + seconds, repeats + 1
        if spent > 1.0:
            break
    return best


def _admitted(kernel: Kernel, probes: Iterable[Probe]) -> list[Probe]:
    return [probe for probe in probes if _admits(kernel, probe)]


def _admits(kernel: Kernel, probe: Probe) -> bool:
    assert probe.inputs[0] is not None
    return kernel.domain.refuses(probe.inputs[0].dtype.name, probe.inputs, probe.params) is None


def _infer(op: Operation[..., Any], probe: Probe) -> Spec:
    return op.infer(*probe.inputs[: len(op.required)], **op.keywords(probe.inputs, probe.params))


def _check_coverage(kernel: Kernel, probes: Sequence[Probe]) -> None:
    """Every declared dtype and parameter value must be met by a probe that has something to compare."""
    capabilities = kernel.capabilities
    telling = [probe for probe in probes if probe.inputs[0] is not None and probe.inputs[0].size]
    if len(telling) < ENOUGH:
        raise ProofFailed(
            ReasonCode.UNPROVABLE,
            f"only {len(telling)} of the probes of {kernel.op.name} lie in its declared domain; "
            f"{ENOUGH} are needed",
            "declare a wider domain: shapes, params or dtypes",
        )
    missing = capabilities.dtypes - {
        str(probe.inputs[0].dtype.name) for probe in telling if probe.inputs[0] is not None
    }
    for name, declared in capabilities.params.items():
        met = {probe.params[name] for probe in telling}
        missing |= {f"{name}={value!r}" for value in declared if value not in met}
    if missing:
        raise ProofFailed(
            ReasonCode.UNPROVABLE,
            f"no probe of {kernel.op.name} covers {', '.join(sorted(missing))}, which it declares",
            f"leave {', '.join(sorted(missing))} out of the declaration",
        )


def _run_probe(gate: _Gate, probe: Probe, again: str = "") -> None:
    """One request; a small one is run as A, B, A with B other data of the same shape."""
    assert probe.inputs[0] is not None
    outcome = _Outcome(probe, probe.inputs[0].dtype.name)
    gate.outcomes.append(outcome)
    small = sum(array.size for array in probe.inputs if array is not None) <= SMALL
    twin = _twin(probe) if small and not again else None
    expected = gate.op.expect(probe)
    first = _call(gate, probe, expected, outcome, again)
    if twin is None or outcome.wrong:
        return
    _call(gate, twin, gate.op.expect(twin), outcome, "other data of the same shape: ")
    if outcome.wrong:
        return
    second = _call(gate, probe, expected, outcome, "the same input again: ")
    if not outcome.wrong and first is not None and second is not None:
        tolerance = _tolerance(gate, probe, expected)
        apart = compare(probe.name, second, np.asarray(first, np.float64), tolerance)
        if apart.wrong:
            outcome.wrong = f"the same input gives different outputs: {apart.wrong}"


def _twin(probe: Probe) -> Probe | None:
    """Other data of the same shape and kind."""
    main = probe.inputs[0]
    assert main is not None
    if main.size < 2:
        return None
    rolled = np.roll(main, 3 if main.size > 3 else 1)
    turned = (rolled * np.asarray(0.75, rolled.dtype) if rolled.dtype.kind != "i" else rolled // 2).astype(
        main.dtype
    )
    if np.array_equal(turned, main):
        return None
    return Probe(probe.name, (turned, *probe.inputs[1:]), probe.params, probe.kind)


def _tolerance(gate: _Gate, probe: Probe, expected: NDArray[np.float64]) -> Any:
    return gate.op.tolerance(probe.kind, probe.inputs, probe.params, expected, gate.accuracy)


def _call(
    gate: _Gate, probe: Probe, expected: NDArray[np.float64], outcome: _Outcome, when: str = ""
) -> Array | None:
    """One guarded call. Returns a private copy of the result, or None when the call was wrong."""
    kernel, spec = gate.kernel, _infer(gate.op, probe)
    inputs = tuple(None if array is None else array.copy() for array in probe.inputs)
    out = _unwritten(spec.shape, spec.dtype) if kernel.gives_out else None
    try:
        result = kernel.serve(inputs, probe.params, spec, out)
    except BadResult as error:
        outcome.wrong = f"{when}{error}"
        return None
    except Exception as error:  # noqa: BLE001  # a kernel may raise anything
        outcome.code = ReasonCode.RAISED
        outcome.wrong = f"{when}raised {type(error).__name__}: {error}"
        return None
    before = gate.kept
    for given, held in zip(inputs, probe.inputs, strict=True):
        if given is not None and held is not None and not _same_bytes(given, held):
            outcome.wrong = f"{when}wrote to its input"
            outcome.advice = "copy before working in place"
            return None
    if any(given is not None and np.shares_memory(result, given) for given in inputs):
        outcome.wrong = f"{when}returned memory that it shares with its input"
        outcome.advice = "return an array of its own, or fill out="
        return None
    if gate.last is not None and before is not None and not _same_bytes(gate.last, before):
        outcome.wrong = f"{when}changed the result of the call before: it returns a buffer that it uses again"
        outcome.advice = "return a fresh array for each call"
        return None
    comparison = compare(probe.name, result, expected, _tolerance(gate, probe, expected), before)
    gate.measurements.append(comparison.measurement)
    if comparison.wrong:
        outcome.wrong = f"{when}{comparison.wrong}"
        return None
    gate.last, gate.kept = result, result.copy()
    return gate.kept


def _unwritten(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """A buffer full of NaN (of zeros, where the dtype has none): what is left of it was never written."""
    return np.full(shape, np.nan if dtype.kind in "fV" else 0, dtype)


def _same_bytes(a: Array, b: Array) -> bool:
    return a.tobytes() == b.tobytes()


def _run_blocks(gate: _Gate, probes: Sequence[Probe]) -> None:
    """At item level: every declared block length, every slot with data of its own."""
    op, kernel = gate.op, gate.kernel
    assert op.items is not None
    for (_, _, dtype), pool in _pools(gate, probes).items():
        sources = [pool.sources[i] for i in range(pool.count)]
        for size in kernel.capabilities.batch_sizes.to_prove(kernel.plan.batch_size):
            rows = _pick(gate.rng, pool.count, size)
            blocks = [np.ascontiguousarray(array[rows]) for array in pool.blocks]
            names = [sources[row] for row in rows]
            outcome = _Outcome(names[0], dtype)
            gate.outcomes.append(outcome)
            _call_block(gate, blocks, names, pool.params, outcome, f"block of {size}: ")
            if outcome.wrong:
                continue
            turned = [np.ascontiguousarray(block[::-1]) for block in blocks]
            _call_block(gate, turned, names[::-1], pool.params, outcome, f"block of {size} in reverse: ")


@dataclass(slots=True)
class _Pool:
    """Items of one shape and of the same parameters, from many probes."""

    params: Params
    blocks: list[Array]
    sources: list[Probe]

    @property
    def count(self) -> int:
        return len(self.sources)


def _pools(gate: _Gate, probes: Sequence[Probe]) -> Mapping[tuple[Any, str, str], _Pool]:
    pools: dict[tuple[Any, str, str], _Pool] = {}
    for probe in probes:
        main = probe.inputs[0]
        assert main is not None
        items = gate.kernel.split(probe.inputs, probe.params)
        count = min(items.count, 256)
        if not count:
            continue
        params = gate.kernel.item_params(probe.inputs, probe.params)
        blocks = [np.empty((count, *shape), main.dtype) for shape in items.shapes]
        items.load(0, count, blocks)
        key = (items.shapes, repr(sorted(params.items())), main.dtype.name)
        if key in pools:
            pool = pools[key]
            pool.blocks = [np.concatenate(pair) for pair in zip(pool.blocks, blocks, strict=True)]
            pool.sources.extend([probe] * count)
        else:
            pools[key] = _Pool(params, blocks, [probe] * count)
    return pools


def _pick(rng: np.random.Generator, count: int, size: int) -> NDArray[np.intp]:
    """Rows of a pool for one block, all different as long as the pool lasts."""
    rounds = [rng.permutation(count) for _ in range(-(-size // count))]
    return np.concatenate(rounds)[:size]


def _call_block(
    gate: _Gate, blocks: list[Array], sources: Sequence[Probe], params: Params, outcome: _Outcome, when: str
) -> None:
    op, kernel = gate.op, gate.kernel
    assert op.items is not None
    size, dtype = len(sources), blocks[0].dtype
    expected = op.items.reference(*blocks, **params)
    out = _unwritten(expected.shape, dtype) if kernel.gives_out else None
    given = [block.copy() for block in blocks]
    try:
        result = kernel.run_block(given, params, expected.shape, dtype, out)
    except BadResult as error:
        outcome.wrong = f"{when}{error}"
        return
    except Exception as error:  # noqa: BLE001  # a kernel may raise anything
        outcome.code = ReasonCode.RAISED
        outcome.wrong = f"{when}raised {type(error).__name__}: {error}"
        return
    if not all(_same_bytes(a, b) for a, b in zip(given, blocks, strict=True)):
        outcome.wrong = f"{when}wrote to its input"
        return
    values = np.asarray(result, np.float64)
    if op.items.settle is not None:
        values, expected = op.items.settle(values), op.items.settle(expected)
    by_source: dict[int, list[int]] = {}
    for row, source in enumerate(sources):
        by_source.setdefault(id(source), []).append(row)
    for rows in by_source.values():
        source = sources[rows[0]]
        part: Arrays = tuple(block[rows] for block in blocks)
        tolerance = op.tolerance(source.kind, part, params, expected[rows], gate.accuracy)
        # A root mean square is a figure of a whole result, not of one slot.
        tolerance = type(tolerance)(tolerance.max_abs)
        comparison = compare(source.name, values[rows], expected[rows], tolerance)
        gate.measurements.append(comparison.measurement)
        if comparison.wrong:
            outcome.probe = source
            whole = (
                compare(source.name, values, expected, tolerance)
                if np.ndim(tolerance.max_abs) == 0
                else comparison
            )
            outcome.wrong = f"{when}slot {rows[0]} of {size}: {whole.wrong or comparison.wrong}"
            return


def _run_strided(gate: _Gate, probes: Sequence[Probe]) -> None:
    """A kernel that takes what the caller has must read any strides and any alignment rightly."""
    for probe in probes[:ENOUGH]:
        expected = gate.op.expect(probe)
        for name, change in (("strided", _spread), ("reversed", _backwards), ("misaligned", _misalign)):
            arrays = tuple(None if array is None else change(array) for array in probe.inputs)
            outcome = _Outcome(probe, name)
            gate.outcomes.append(outcome)
            try:
                result = gate.kernel.serve(arrays, probe.params, _infer(gate.op, probe))
            except Exception as error:  # noqa: BLE001  # a kernel may raise anything
                outcome.wrong = f"{name} input: raised {type(error).__name__}: {error}"
                outcome.advice = "drop strided=True"
                continue
            comparison = compare(probe.name, result, expected, _tolerance(gate, probe, expected))
            if comparison.wrong:
                outcome.wrong, outcome.advice = f"{name} input: {comparison.wrong}", "drop strided=True"


def _spread(array: Array) -> Array:
    if array.ndim == 0:
        return array
    wide = np.full((*array.shape[:-1], array.shape[-1] * 2), 7, array.dtype)
    wide[..., ::2] = array
    return wide[..., ::2]


def _backwards(array: Array) -> Array:
    return array if array.ndim == 0 else np.ascontiguousarray(array[..., ::-1])[..., ::-1]


def _misalign(array: Array) -> Array:
    raw = np.zeros(array.nbytes + 1, np.uint8)
    view = raw[1:].view(array.dtype).reshape(array.shape) if array.nbytes else array
    view[...] = array
    return view


def _run_non_finite(gate: _Gate, probes: Sequence[Probe]) -> None:
    """A kernel that says it notices non-finite values must notice them wherever they stand."""
    forbidden = [i for i, item in enumerate(gate.op.inputs) if item.finite]
    for probe in probes:
        for index in forbidden:
            array = probe.inputs[index]
            if array is None or array.dtype.kind != "f" or not array.size or array.size > SMALL:
                continue
            spots = {0, array.size - 1, array.size // 2, int(gate.rng.integers(array.size))}
            for spot in sorted(spots):
                bad = array.copy()
                value = (np.nan, np.inf, -np.inf)[int(gate.rng.integers(3))]
                bad.flat[spot] = value
                inputs = tuple(bad if i == index else one for i, one in enumerate(probe.inputs))
                outcome = _Outcome(probe, array.dtype.name)
                gate.outcomes.append(outcome)
                try:
                    gate.kernel.serve(inputs, probe.params, _infer(gate.op, probe))
                except FloatingPointError:
                    continue
                except Exception as error:  # noqa: BLE001  # a kernel may raise anything
                    outcome.wrong = (
                        f"raised {type(error).__name__} for {value} at {spot}, not FloatingPointError"
                    )
                else:
                    outcome.wrong = (
                        f"did not notice {value} at {spot} of {array.size} in {gate.op.inputs[index].name}"
                    )
                outcome.advice = "drop checks_finite=True, or raise FloatingPointError for every such value"
                return


def _run_threads(gate: _Gate, probes: Sequence[Probe]) -> None:
    """Calls from many threads at a time must not disturb each other."""
    small = [p for p in probes if p.inputs[0] is not None and 0 < p.inputs[0].size <= SMALL][: 2 * THREADS]
    wanted = [gate.op.expect(probe) for probe in small]
    outcomes = [_Outcome(probe, "") for probe in small]
    ready = threading.Barrier(THREADS)

    def work(first: int) -> None:
        ready.wait()
        for turn in range(3 * len(small)):
            index = (first + turn) % len(small)
            probe = small[index]
            try:
                result = gate.kernel.serve(probe.inputs, probe.params, _infer(gate.op, probe))
            except Exception as error:  # noqa: BLE001  # a kernel may raise anything
                outcomes[index].wrong = f"called from several threads: raised {type(error).__name__}: {error}"
                return
            tolerance = _tolerance(gate, probe, wanted[index])
            if wrong := compare(probe.name, result, wanted[index], tolerance).wrong:
                outcomes[index].wrong = f"called from several threads: {wrong}"
                return

    threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for outcome in outcomes:
        outcome.advice = "keep state per thread, or use opener= (which is called by one thread at a time)"
    gate.outcomes.extend(outcomes)


def _judge(gate: _Gate) -> None:
    """Raise for the first probe that failed, with the narrower declaration that would have passed."""
    failed = [outcome for outcome in gate.outcomes if outcome.wrong]
    if not failed:
        return
    first = failed[0]
    params = ", ".join(f"{name}={value!r}" for name, value in first.probe.params.items())
    terms = ", ".join(part for part in (first.dtype, params) if part)
    message = f"probe {first.probe.name!r} ({terms}): {first.wrong}"
    remedy = (
        first.advice
        or _narrower(gate)
        or f"mend the kernel, then run: assay prove {gate.kernel.implementation.id}"
    )
    raise ProofFailed(first.code, message, remedy)


def _narrower(gate: _Gate) -> str:
    """The declaration under which every probe that failed would have been left out."""
    failed = [outcome for outcome in gate.outcomes if outcome.wrong]
    passed = [outcome for outcome in gate.outcomes if not outcome.wrong]
    good_dtypes = {o.dtype for o in passed} - {o.dtype for o in failed}
    if good_dtypes and {o.dtype for o in failed} < gate.kernel.capabilities.dtypes:
        return f"declare dtypes={{{', '.join(map(repr, sorted(good_dtypes)))}}}: every probe with it passed"
    for name in gate.op.defaults:
        bad = {repr(o.probe.params[name]) for o in failed}
        good = {repr(o.probe.params[name]) for o in passed} - bad
        if good:
            return f'declare params={{"{name}": {{{", ".join(sorted(good))}}}}}: every probe with it passed'
    return ""


def _worst_by_probe(measurements: Sequence[Measurement]) -> Iterator[Measurement]:
    worst: dict[str, Measurement] = {}
    for one in measurements:
        if one.probe not in worst or one.share > worst[one.probe].share:
            worst[one.probe] = one
    yield from worst.values()
