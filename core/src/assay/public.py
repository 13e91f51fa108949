"""Every public name. They load together when the first of them is asked for."""

from assay.config import Config
from assay.contract.candidate import Candidate, Certificate, Counters, Decision, Measurement, State, Verdict
from assay.contract.capabilities import Accuracy, BatchSizes, BufferFlag, Capabilities, Requires
from assay.contract.device import Device, DeviceDriver, Plan
from assay.contract.errors import (
    AssayError,
    BufferRefused,
    ConfigError,
    DeadlineExceeded,
    DeviceLost,
    DeviceUnavailable,
    ForkedRuntime,
    InvalidInput,
    NoImplementation,
    OperationFailed,
    Overloaded,
    UnknownOperation,
)
from assay.contract.hooks import hookimpl
from assay.contract.implementation import Implementation
from assay.contract.operation import (
    Arrays,
    Domain,
    Input,
    ItemForm,
    Items,
    Operation,
    Params,
    Probe,
    Spec,
    Tolerance,
)
from assay.contract.reasons import Reason, ReasonCode
from assay.devices.xrt.offers import manifests
from assay.runtime import Runtime
from assay.scheduler.bound import BoundOperation

__all__ = [
    "Accuracy",
    "Arrays",
    "AssayError",
    "BatchSizes",
    "BoundOperation",
    "BufferFlag",
    "BufferRefused",
    "Candidate",
    "Capabilities",
    "Certificate",
    "Config",
    "ConfigError",
    "Counters",
    "DeadlineExceeded",
    "Decision",
    "Device",
    "DeviceDriver",
    "DeviceLost",
    "DeviceUnavailable",
    "Domain",
    "ForkedRuntime",
    "Implementation",
    "Input",
    "InvalidInput",
    "ItemForm",
    "Items",
    "Measurement",
    "NoImplementation",
    "Operation",
    "OperationFailed",
    "Overloaded",
    "Params",
    "Plan",
    "Probe",
    "Reason",
    "ReasonCode",
    "Requires",
    "Runtime",
    "Spec",
    "State",
    "Tolerance",
    "UnknownOperation",
    "Verdict",
    "hookimpl",
    "manifests",
]
