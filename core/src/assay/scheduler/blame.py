"""Who is at fault when a call fails: the caller, the kernel, its device, or the load."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from assay.contract.errors import DeviceLost, InvalidInput
from assay.contract.operation import Arrays
from assay.negotiation.kernel import BadResult
from assay.negotiation.proof import ProofFailed
from assay.scheduler.deadline import Hung
from assay.scheduler.finite import all_finite
from assay.scheduler.route import Leg, NonFinite, explains_non_finite, refuse_forbidden


@dataclass(frozen=True, slots=True)
class Fault:
    """One failed attempt: its kind for the counters, and what happened in words.

    ``guilty``: it counts towards the implementation's quarantine.
    """

    leg: Leg
    kind: str
    what: str
    guilty: bool
    error: BaseException

    @property
    def id(self) -> str:
        """The implementation that failed."""
        return self.leg.server.candidate.id


def examine(leg: Leg, inputs: Arrays, error: BaseException) -> Fault:
    """Find who is at fault. Only here, where something has failed, are the inputs of a call read again.

    Raises:
        InvalidInput: The caller is: there is a value that the operation forbids.
        KeyboardInterrupt, GeneratorExit: They are nobody's failure.
    """
    if isinstance(error, (KeyboardInterrupt, GeneratorExit)):
        raise error
    if not leg.forbids:  # otherwise they were looked at before
        refuse_forbidden(leg.op, inputs)
    kind, what = _name(error)
    guilty = kind != "refused"
    if kind in ("raised", "non_finite"):
        if _does_not_fit(leg, inputs):
            kind, what, guilty = "out_of_range", f"the input does not fit {leg.dtype}: {what}", False
        elif kind == "raised" and explains_non_finite(leg.op, inputs):
            guilty = False  # the contract lets a kernel raise for such inputs
    return Fault(leg, kind, what, guilty, error)


def _name(error: BaseException) -> tuple[str, str]:
    if isinstance(error, BadResult):
        return "bad_result", str(error)
    if isinstance(error, NonFinite):
        return "non_finite", str(error)
    if isinstance(error, Hung):
        return "deadline", str(error)
    if isinstance(error, MemoryError):
        return "out_of_memory", f"ran out of memory: {error}".rstrip(": ")
    if isinstance(error, DeviceLost):
        return "device_lost", str(error)
    if isinstance(error, ProofFailed):
        return "load", error.message
    if isinstance(error, InvalidInput):  # what the operation checks has passed: another plan may take it
        return "refused", str(error)
    return "raised", f"raised {type(error).__name__}: {error}"


def _does_not_fit(leg: Leg, inputs: Arrays) -> bool:
    """Whether a finite input became infinite when it was converted for the kernel."""
    if leg.dtype is None:
        return False
    with np.errstate(over="ignore"):
        return any(
            array is not None
            and array.dtype == inputs[0].dtype  # type: ignore[union-attr]  # the main input is never absent
            and all_finite(array)
            and not all_finite(leg.op.convert(array, leg.dtype))
            for array in inputs
        )
