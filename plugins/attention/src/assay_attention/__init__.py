"""Attention for Assay."""

from assay_attention.multihead import multi_head_attention
from assay_attention.operation import ATTENTION

__all__ = ["ATTENTION", "multi_head_attention"]
