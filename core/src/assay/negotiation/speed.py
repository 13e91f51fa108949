"""Which of several proven kernels is fastest: repeated, interleaved, until the figures stand."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from assay.contract.errors import InvalidInput
from assay.contract.operation import Operation, Params, Probe
from assay.negotiation.exam import Question, admits
from assay.negotiation.kernel import Kernel

SETTLED = 5
"""Rounds in which no figure gets better by more than ``SHARE`` end a race."""

SHARE = 0.02
BEHIND = 3.0
"""A kernel this many times slower than the fastest runs no further rounds: it is out of the race."""

LEAST_S = 2e-4
"""The least time that one sample takes: shorter calls are repeated within it."""

Shapes = Sequence[tuple[int, ...]]
"""Those of one request's required inputs, or one for all of them."""


def workloads(
    op: Operation[Any, Any], shapes: Sequence[Shapes] = (), params: Params | None = None
) -> list[Probe]:
    """The standard workload, or its data in other shapes: a request for each.

    Raises:
        InvalidInput: The operation does not take these shapes or parameters.
    """
    return [_workload(op, one, params or {}) for one in shapes or [()]]


def _workload(op: Operation[Any, Any], shapes: Shapes, params: Params) -> Probe:
    probe = op.standard(np.random.default_rng(0))
    count = len(op.required)
    if shapes and len(shapes) not in (1, count):
        raise InvalidInput(f"{op.name} takes {count} arrays; give one shape for all of them, or {count}")
    inputs = list(probe.inputs)
    for place, shape in enumerate(list(shapes) * count if len(shapes) == 1 else shapes):
        array = inputs[place]
        assert array is not None
        inputs[place] = np.resize(array, shape)
    made = Probe("workload", tuple(inputs), {**probe.params, **params}, probe.kind)
    op.infer(*made.inputs[:count], **op.keywords(made.inputs, made.params))
    return made


def race(kernels: Mapping[str, Kernel], probes: Sequence[Probe], budget_s: float) -> dict[str, float]:
    """Seconds for one request of each kind, by each kernel that takes and does them all."""
    runs = {id: run for id, kernel in kernels.items() if (run := _runner(kernel, probes))}
    best = dict.fromkeys(runs, float("inf"))
    calls = dict.fromkeys(runs, 1)
    end, settled, turn = time.perf_counter() + budget_s, 0, 0
    while runs and settled < SETTLED and (turn < 2 or time.perf_counter() < end):
        better = False
        order = sorted(runs) if turn % 2 else sorted(runs, reverse=True)
        for id in order:
            seconds = _sample(runs[id], calls[id])
            if seconds is None:
                del runs[id], best[id]
                continue
            calls[id] = max(1, round(LEAST_S / max(seconds, 1e-7)))
            better |= seconds < (1 - SHARE) * best[id]
            best[id] = min(best[id], seconds)
        settled = 0 if better else settled + 1
        least = min(best.values(), default=0.0)
        runs = {id: run for id, run in runs.items() if turn == 0 or best[id] <= BEHIND * least}
        turn += 1
    return best


def _runner(kernel: Kernel, probes: Sequence[Probe]) -> Callable[[], None] | None:
    requests = []
    for probe in probes:
        if not admits(kernel.domain, probe):
            return None
        spec = Question(kernel.op, probe).spec
        inputs = tuple(None if array is None else array.copy() for array in probe.inputs)
        out = np.empty(spec.shape, spec.dtype) if kernel.gives_out else None
        requests.append((inputs, probe.params, spec, out))

    def run() -> None:
        for request in requests:
            kernel.serve(*request)

    return run


def _sample(run: Callable[[], Any], calls: int) -> float | None:
    """Seconds per call; None: it failed."""
    try:
        start = time.perf_counter()
        for _ in range(calls):
            run()
        return (time.perf_counter() - start) / calls
    except Exception:  # noqa: BLE001  # a kernel that fails here is out of the race; serving it has its own guard
        return None
