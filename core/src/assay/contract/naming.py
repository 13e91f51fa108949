"""Near names for error messages, and patterns that select implementations."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from fnmatch import fnmatchcase


def near(name: str, known: Iterable[str]) -> str:
    """A sentence that helps someone who mistyped a name: the nearest known one, or all of them."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(names)}" if names else "none is known"


def is_pattern(name: str) -> bool:
    """Whether a name in the configuration is a pattern."""
    return any(sign in name for sign in "*?[")


def selects(pattern: str, id: str) -> bool:
    """Whether a name, an id or a pattern of either means the implementation ``op.name``."""
    return fnmatchcase(id, pattern) or fnmatchcase(id.split(".", 1)[1], pattern)
