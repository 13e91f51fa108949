"""Loading a candidate's code: whatever that raises becomes a reason."""

from __future__ import annotations

from typing import Any

from assay.contract.candidate import Candidate
from assay.contract.device import Plan
from assay.contract.errors import DeviceUnavailable
from assay.contract.operation import Operation
from assay.contract.reasons import ReasonCode
from assay.negotiation.kernel import Kernel
from assay.negotiation.proof import ProofFailed


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


def _mend(error: Exception, candidate: Candidate) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"install what provides the module {error.name!r}, and name it in Requires(packages=...)"
    return f'see that it imports: python -c "import {_module(candidate)}"' if _module(candidate) else ""


def _module(candidate: Candidate) -> str:
    target = candidate.implementation.kernel or candidate.implementation.opener
    return target.partition(":")[0] if isinstance(target, str) else ""
