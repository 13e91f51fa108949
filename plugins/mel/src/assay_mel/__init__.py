"""Whisper's log-mel features as an Assay operation."""

from assay_mel.operation import MEL

__version__ = "0.1.0"

__all__ = ["MEL"]
