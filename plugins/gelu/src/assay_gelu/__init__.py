"""GELU for Assay."""

from assay_gelu.operation import GELU

__all__ = ["GELU"]
