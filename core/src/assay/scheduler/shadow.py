"""Shadow checks: a share of real results is compared with another implementation's, off the caller's path."""

from __future__ import annotations

import contextlib
import logging
import time
from functools import partial
from typing import Any

import numpy as np

from assay.contract.operation import Array, Arrays, Tolerance
from assay.negotiation.compare import compare
from assay.scheduler.capture import digest
from assay.scheduler.deadline import Lanes
from assay.scheduler.events import Events
from assay.scheduler.quarantine import Quarantine
from assay.scheduler.route import Leg, Route, explains_non_finite
from assay.scheduler.steward import Steward

WAITING = 2
"""Copies of requests that wait to be compared, at most; what comes while they wait is not compared."""

SUSPECTS_SHARE = 0.02
"""The share of time that may go into results that look wrong, where no share is configured."""

TIMEOUT_S = 30.0
"""The longest that the other implementation may take."""


class Shadow:
    """The shadow checks of one operation.

    They take at most the configured share of calls, and of time: what a check has cost is earned back
    by serving before the next one.
    """

    def __init__(self, quarantine: Quarantine, events: Events, lanes: Lanes, steward: Steward) -> None:
        self._quarantine = quarantine
        self._lanes = lanes
        self._events = events
        self._steward = steward
        self._due = 0.0
        self._spent = 0.0
        self._waiting = 0

    def offer(self, leg: Leg, route: Route, inputs: Arrays, result: Array) -> None:
        """Take a copy of a served request to compare, if its turn has come or its result looks wrong."""
        rate = route.policy.shadow_rate
        suspect = route.policy.check == "always" and _constant(result) and not _constant(inputs[0])
        if not rate and not suspect:
            return
        self._due += rate
        served = sum(server.candidate.counters.seconds for server in self._quarantine.roster.servers)
        turn = (self._due >= 1 or suspect) and self._spent <= max(rate, SUSPECTS_SHARE * suspect) * served
        if self._waiting >= WAITING or not turn:
            return
        self._due %= 1
        self._waiting += 1
        kept = tuple(None if array is None else array.copy() for array in inputs)
        held = result.copy()
        self._steward.at(0.0, lambda: self._check(leg, route, kept, held))

    def _check(self, leg: Leg, route: Route, inputs: Arrays, result: Array) -> None:
        start = time.perf_counter()
        try:
            if explains_non_finite(leg.op, inputs):
                return  # what comes of such a request is not defined everywhere
            others = [one for one in route.legs if one.server is not leg.server]
            other = next((one for one in others if not one.server.quarantined), None)
            results = [(leg, result)]
            if other is not None:
                with contextlib.suppress(Exception):  # it may fail: then the reference alone decides
                    second, _ = self._lanes.run(other.server, partial(other.answer, inputs), TIMEOUT_S, 1)
                    results.append((other, second))
            if len(results) == 1 or _apart(results, inputs):
                self._settle(results, inputs)
        finally:
            self._spent += time.perf_counter() - start
            self._waiting -= 1

    def _settle(self, results: list[tuple[Leg, Array]], inputs: Arrays) -> None:
        """Hold results against the reference, and take out whoever is wrong."""
        leg = results[0][0]
        op = leg.op
        expected = op.reference(*inputs[: len(op.required)], **op.keywords(inputs, leg.params))
        for one, result in results:
            wrong = compare("shadow", result, expected, one.admitted(inputs, expected)).wrong
            if wrong:
                server, name = one.server, digest(inputs, one.params)
                server.candidate.counters.failures["mismatch"] += 1
                self._events.emit(
                    logging.ERROR,
                    "kernel.failed",
                    candidate=server.candidate.id,
                    kind="mismatch",
                    error=wrong,
                    op=op.name,
                    input=name,
                )
                self._quarantine.impose(server, f"a shadow check of input {name}: {wrong}")


def _apart(results: list[tuple[Leg, Array]], inputs: Arrays) -> bool:
    """Whether two results differ by more than both may be off."""
    (leg, result), (other, second) = results
    expected = np.asarray(second, np.float64)
    limits = [np.asarray(one.admitted(inputs, expected).max_abs, np.float64) for one in (leg, other)]
    return bool(compare("shadow", result, expected, Tolerance(limits[0] + limits[1])).wrong)


def _constant(array: Any) -> bool:
    return bool(array is not None and array.size > 1 and (array == array.flat[0]).all())
