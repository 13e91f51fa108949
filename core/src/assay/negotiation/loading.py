"""From a candidate to a kernel, and from there to a certificate: whatever its code does becomes a reason."""

from __future__ import annotations

import signal
import time
from dataclasses import replace
from typing import Any

from assay.contract.candidate import Candidate, Certificate
from assay.contract.device import Plan
from assay.contract.errors import DeviceUnavailable
from assay.contract.operation import Operation
from assay.contract.reasons import ReasonCode
from assay.negotiation.exam import Exam, ProofFailed
from assay.negotiation.kernel import Kernel
from assay.negotiation.proof import prove

ADVICE_S = 6.0
"""How long narrower declarations are tried after a proof has failed."""


def load(op: Operation[Any, Any], candidate: Candidate, plan: Plan) -> Kernel:
    """Load a candidate's code under its plan.

    Raises:
        ProofFailed: Importing or opening it raised.
    """
    implementation = candidate.implementation
    try:
        return Kernel(op, implementation, plan)
    except DeviceUnavailable as error:
        raise ProofFailed(ReasonCode(error.code), str(error), error.remedy) from error
    except Exception as error:  # a candidate's code may raise anything
        opened = implementation.opener is not None and not isinstance(error, ImportError)
        code = ReasonCode.OPEN_FAILED if opened else ReasonCode.LOAD_FAILED
        target = implementation.kernel or implementation.opener
        where = target if isinstance(target, str) else "its code"
        raise ProofFailed(
            code,
            f"{where} raised {type(error).__name__}: {error}",
            _mend(error, candidate),
        ) from error


def certify(op: Operation[Any, Any], candidate: Candidate, plan: Plan, exam: Exam) -> Certificate:
    """Load a candidate, prove it, and let it go again.

    Raises:
        ProofFailed: With the narrower declaration under which it was proved, where there is one.
    """
    try:
        return _prove(op, candidate, plan, exam)
    except ProofFailed as failure:
        until = time.perf_counter() + ADVICE_S
        if declaration := _tried(op, candidate, plan, exam, failure, until):
            failure.remedy = f"declare {declaration}: with that it was proved"
        raise


def _prove(
    op: Operation[Any, Any], candidate: Candidate, plan: Plan, exam: Exam, until: float = float("inf")
) -> Certificate:
    handlers = _handlers()
    kernel = load(op, candidate, plan)
    try:
        certificate = prove(kernel, exam=exam, until=until)
    except ProofFailed:
        raise
    except Exception as error:  # the operation's own code: its probes, its reference
        raise ProofFailed(
            ReasonCode.UNPROVABLE,
            f"the proof of {op.name} itself failed: {type(error).__name__}: {error}",
            f"report it to the operation's author; probe with assay prove {candidate.id}",
        ) from error
    finally:
        _close(kernel)
    if _handlers() != handlers:
        raise ProofFailed(ReasonCode.RAISED, "it changed signal handlers", "never touch signals in a kernel")
    return certificate


def _close(kernel: Kernel) -> None:
    try:
        kernel.close()
    except Exception as error:
        raise ProofFailed(
            ReasonCode.RAISED, f"its close() raised {type(error).__name__}: {error}", "close() must not fail"
        ) from error


def _handlers() -> list[Any]:
    return [signal.getsignal(number) for number in signal.valid_signals()]


def _tried(
    op: Operation[Any, Any],
    candidate: Candidate,
    plan: Plan,
    exam: Exam,
    failure: ProofFailed,
    until: float,
    depth: int = 2,
) -> str:
    """How the declaration is written, of those that a failure suggests, under which the proof passes."""
    for text, update in failure.narrower:
        implementation = candidate.implementation
        capabilities = implementation.capabilities.model_copy(update=dict(update))
        narrowed = Candidate(
            implementation.model_copy(update={"capabilities": capabilities}), candidate.distribution
        )
        batch = capabilities.batch_sizes.choose(plan.batch_size) if capabilities.form == "items" else 1
        terms = replace(plan, batch_size=batch, accuracy=capabilities.accuracy)
        try:
            _prove(op, narrowed, terms, exam, until)
        except ProofFailed as again:
            if depth > 1 and (more := _tried(op, narrowed, terms, exam, again, until, depth - 1)):
                return f"{text}, {more}"
        else:
            return text
    return ""


def _mend(error: Exception, candidate: Candidate) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"install what provides the module {error.name!r}, and name it in Requires(packages=...)"
    return f'see that it imports: python -c "import {_module(candidate)}"' if _module(candidate) else ""


def _module(candidate: Candidate) -> str:
    target = candidate.implementation.kernel or candidate.implementation.opener
    return target.partition(":")[0] if isinstance(target, str) else ""
