"""The library's events: structlog over the standard library's logger "assay", which is never configured here.

A program that has configured structlog gets the events through its own processors;
otherwise they are rendered as logfmt, so that warnings are visible by default.
"""

from __future__ import annotations

import logging
from typing import Any

import structlog

_STANDARD = logging.getLogger("assay")
_OWN = structlog.wrap_logger(
    _STANDARD,
    processors=[structlog.stdlib.filter_by_level, structlog.processors.LogfmtRenderer(key_order=["event"])],
    wrapper_class=structlog.stdlib.BoundLogger,
)
_THEIRS = structlog.wrap_logger(_STANDARD, wrapper_class=structlog.stdlib.BoundLogger)


def emit(level: int, event: str, **fields: Any) -> None:
    """Log one event with its fields."""
    logger = _THEIRS if structlog.is_configured() else _OWN
    logger.log(level, event, **fields)
