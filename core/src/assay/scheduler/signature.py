"""From a caller's arguments to canonical inputs and parameters, with errors that name the argument."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from assay.contract.errors import InvalidInput
from assay.contract.naming import near
from assay.contract.operation import Array, Arrays, Operation, Params


def bind(op: Operation[Any, Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Arrays, Params]:
    """The inputs in the operation's order and every parameter with its default.

    Raises:
        InvalidInput: An argument is missing, unknown, no array, or of a dtype that is not accepted.
    """
    given = dict(kwargs)
    if len(args) > len(op.required):
        raise InvalidInput(
            f"{op.name} takes {len(op.required)} array(s) by position, got {len(args)} arguments; "
            f"the rest go by keyword: {describe(op)}"
        )
    for item, value in zip(op.required, args, strict=False):
        if item.name in given:
            raise InvalidInput(f"{op.name}: {item.name} was given twice, by position and by keyword")
        given[item.name] = value
    known = [*(item.name for item in op.inputs), *op.defaults]
    for name in given:
        if name not in known:
            raise InvalidInput(f"{op.name} has no argument {name!r}: {near(name, [*known, 'out'])}")
    inputs: list[Array | None] = []
    for item in op.inputs:
        value = given.pop(item.name, None)
        if value is None:
            if not item.optional:
                raise InvalidInput(f"{op.name}: {item.name} is missing: {describe(op)}")
            inputs.append(None)
            continue
        inputs.append(as_array(op, item.name, item.dtypes, value))
    return tuple(inputs), {name: given.get(name, default) for name, default in op.defaults.items()}


def as_array(op: Operation[Any, Any], name: str, dtypes: frozenset[str], value: Any) -> Array:
    """A plain array in native byte order of an accepted dtype; the caller's own memory where it is one.

    Raises:
        InvalidInput: It cannot be.
    """
    accepted = ", ".join(sorted(dtypes))
    masked = sys.modules.get("numpy.ma")  # who has a masked array has loaded it
    if masked is not None and isinstance(value, masked.MaskedArray):
        raise InvalidInput(f"{op.name}: {name} is a masked array; fill it first (accepted: {accepted})")
    try:
        array = np.asarray(value)
    except Exception as error:
        raise InvalidInput(
            f"{op.name}: {name} is {type(value).__name__} and does not convert to an array: {error}"
        ) from error
    if not isinstance(value, np.ndarray) and array.dtype == np.float64 and "float64" not in dtypes:
        array = array.astype(np.float32)  # Python numbers have no precision of their own
    if array.dtype.name not in dtypes:
        raise InvalidInput(f"{op.name}: {name} is {array.dtype} of shape {array.shape}; accepted: {accepted}")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def describe(op: Operation[Any, Any]) -> str:
    """How the operation is called."""
    return f"{op.name}{inspect.signature(op.signature)}"
