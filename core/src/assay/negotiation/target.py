"""From "pkg.mod:fn" to the object, when its turn has come."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any


def resolve(target: str | Callable[..., Any]) -> Callable[..., Any]:
    """Import what a target names; a callable is returned as it is.

    Raises:
        ImportError, AttributeError: The module or the name in it is not there.
        Exception: Whatever the module raises on import.
    """
    if not isinstance(target, str):
        return target
    module, _, path = target.partition(":")
    found: Any = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    if not callable(found):
        raise TypeError(f"{target} is {type(found).__name__}, not a callable")
    return found  # type: ignore[no-any-return]  # callable(...) narrows Any to nothing better
