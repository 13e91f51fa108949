"""What Assay raises. Every error says what was expected, what was found and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from assay.contract.candidate import Decision


class AssayError(Exception):
    """The root of every error that this library raises on purpose."""


class ConfigError(AssayError):
    """The configuration names something that does not exist or holds a value that cannot be."""


class InvalidInput(AssayError, ValueError):
    """The caller's arguments do not fit the operation. No kernel is blamed for it."""


class UnknownOperation(AssayError, LookupError):
    """No plugin offers an operation of that name."""


class NoImplementation(AssayError):
    """No implementation may serve. Its text is the table of reasons; ``decision`` is the data."""

    def __init__(self, message: str, decision: Decision | None = None) -> None:
        super().__init__(message)
        self.decision = decision


class OperationFailed(AssayError):
    """Every plan failed. ``attempts`` holds (implementation id, what happened) in order."""

    def __init__(self, op: str, attempts: Sequence[tuple[str, str]]) -> None:
        self.op = op
        self.attempts = tuple(attempts)
        lines = "\n".join(f"  {name}: {what}" for name, what in self.attempts)
        super().__init__(f"{op}: every implementation that takes this request failed:\n{lines}")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.op, self.attempts)


class Overloaded(AssayError):
    """The queue of an operation is full; the request was not taken. Try again later."""


class DeadlineExceeded(AssayError, TimeoutError):
    """No plan answered before the deadline."""


class ForkedRuntime(AssayError):
    """The runtime was opened by the parent of this process. Open one after the fork."""


class BufferRefused(AssayError):
    """A device does not allocate buffers with this flag. Negotiation tries the next one."""


class DeviceUnavailable(AssayError):
    """A device is absent, busy or not permitted; ``code`` says which and ``remedy`` what to do."""

    def __init__(self, code: str, message: str, remedy: str) -> None:
        super().__init__(message)
        self.code = code
        self.remedy = remedy

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.code, str(self), self.remedy)


class DeviceLost(AssayError):
    """A device error that sticks: every kernel on the device fails from now on."""
