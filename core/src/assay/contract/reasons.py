"""Why a candidate is where it is: a code for programs, a message and a remedy for people."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ReasonCode(StrEnum):
    """Every way in which a candidate can leave the funnel, cheap tests first."""

    DENIED = "denied"
    NOT_REQUIRED = "not_required"
    ACCURACY_NOT_ADMITTED = "accuracy_not_admitted"
    DEVICE_ABSENT = "device_absent"
    DEVICE_BUSY = "device_busy"
    DEVICE_NOT_PERMITTED = "device_not_permitted"
    DEVICE_GENERATION = "device_generation"
    CPU_FEATURE_MISSING = "cpu_feature_missing"
    DRIVER_VERSION = "driver_version"
    PACKAGE_MISSING = "package_missing"
    PACKAGE_VERSION = "package_version"
    ARTIFACT_MISSING = "artifact_missing"
    ARTIFACT_CHANGED = "artifact_changed"
    DTYPE_UNSUPPORTED = "dtype_unsupported"
    SHAPE_UNSUPPORTED = "shape_unsupported"
    PARAMETER_UNSUPPORTED = "parameter_unsupported"
    BATCH_UNSUPPORTED = "batch_unsupported"
    BUFFER_REFUSED = "buffer_refused"
    MEMORY_LIMIT = "memory_limit"
    INVALID_DECLARATION = "invalid_declaration"
    DUPLICATE = "duplicate"
    NO_CERTIFICATE = "no_certificate"
    LOAD_FAILED = "load_failed"
    OPEN_FAILED = "open_failed"
    UNPROVABLE = "unprovable"
    INACCURATE = "inaccurate"
    RAISED = "raised"
    CRASHED = "crashed"
    TIMED_OUT = "timed_out"
    QUARANTINED = "quarantined"
    UNPROVEN = "unproven"
    REPROVED = "reproved"
    OUTRANKED = "outranked"
    VETOED = "vetoed"
    PREFERRED = "preferred"
    REQUIRED = "required"
    BEST = "best"


FAULTS = frozenset(
    {
        ReasonCode.DUPLICATE,
        ReasonCode.INVALID_DECLARATION,
        ReasonCode.ARTIFACT_CHANGED,
        ReasonCode.LOAD_FAILED,
        ReasonCode.OPEN_FAILED,
        ReasonCode.UNPROVABLE,
        ReasonCode.INACCURATE,
        ReasonCode.RAISED,
        ReasonCode.CRASHED,
        ReasonCode.TIMED_OUT,
    }
)
"""Reasons that mean that something is wrong, rather than that this machine lacks something."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One step in the explanation of a candidate's verdict."""

    code: ReasonCode
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.message} ({self.remedy})" if self.remedy else self.message
