"""What this distribution offers. Nothing but NumPy and Assay is imported here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import assay

from assay_attention.operation import ATTENTION


@assay.hookimpl
def assay_operations() -> Iterator[assay.Operation[Any, Any]]:
    """The operation ``attention``."""
    yield ATTENTION


@assay.hookimpl
def assay_implementations() -> Iterator[assay.Implementation]:
    """The definition, a portable one, and those of common libraries."""
    yield assay.Implementation(
        op="attention",
        name="reference",
        priority=0,
        kernel="assay_attention.backends.reference:attention",
        capabilities=assay.Capabilities(dtypes=frozenset({"float32", "float64"})),
        description="the float64 definition",
    )
    yield assay.Implementation(
        op="attention",
        name="numpy",
        priority=20,
        kernel="assay_attention.backends.numpy:attention",
        capabilities=assay.Capabilities(dtypes=frozenset({"float32", "float64"}), writes_out=True),
        description="blocks of scores in NumPy, no other library",
    )
    yield assay.Implementation(
        op="attention",
        name="onnxruntime",
        priority=40,
        opener="assay_attention.backends.onnxruntime:open_attention",
        capabilities=assay.Capabilities(
            shapes="assay_attention.backends.onnxruntime:not_empty",
            thread_safe=True,
            requires=assay.Requires(packages=("onnx>=1.18", "onnxruntime>=1.23")),
        ),
        description="ONNX Runtime on the CPU",
    )
    yield assay.Implementation(
        op="attention",
        name="torch",
        priority=40,
        opener="assay_attention.backends.torch:open_attention",
        capabilities=assay.Capabilities(
            dtypes=frozenset({"float32", "float64"}),
            params={"softcap": frozenset({0.0})},
            thread_safe=True,
            requires=assay.Requires(packages=("torch>=2.5",)),
        ),
        description="PyTorch on the CPU",
    )
