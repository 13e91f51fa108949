"""The hooks that a plugin may implement. pluggy collects declarations; it is never on the call path."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from assay.contract.device import DeviceDriver
    from assay.contract.errors import AssayError
    from assay.contract.implementation import Implementation
    from assay.contract.operation import Operation

ENTRY_POINT_GROUP = "assay"

hookspec = pluggy.HookspecMarker("assay")
hookimpl = pluggy.HookimplMarker("assay")


@hookspec
def assay_operations() -> Iterable[Operation[Any, Any]]:  # type: ignore[empty-body]  # a specification has no body
    """Yield the operations that this plugin defines."""


@hookspec
def assay_implementations() -> Iterable[Implementation | AssayError]:  # type: ignore[empty-body]
    """Yield the implementations that this plugin offers, of its own operations or of others'.

    An error that is yielded, not raised, becomes a problem of the plugin and costs nothing else.
    """


@hookspec
def assay_devices() -> Iterable[DeviceDriver]:  # type: ignore[empty-body]
    """Yield the drivers of the kinds of device that this plugin knows."""
