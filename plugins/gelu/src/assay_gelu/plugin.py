"""What this distribution offers. Nothing but NumPy and Assay is imported here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import assay

from assay_gelu.operation import GELU


@assay.hookimpl
def assay_operations() -> Iterator[assay.Operation[Any, Any]]:
    """The operation ``gelu``."""
    yield GELU


@assay.hookimpl
def assay_implementations() -> Iterator[assay.Implementation]:
    """The definition, a portable one, and those of common libraries."""
    yield assay.Implementation(
        op="gelu",
        name="reference",
        priority=0,
        kernel="assay_gelu.backends.reference:gelu",
        capabilities=assay.Capabilities(dtypes=frozenset({"float32", "float64"})),
        description="the float64 definition",
    )
    yield assay.Implementation(
        op="gelu",
        name="numpy",
        priority=20,
        kernel="assay_gelu.backends.numpy:gelu",
        capabilities=assay.Capabilities(writes_out=True),
        description="polynomials in NumPy, no other library",
    )
    yield assay.Implementation(
        op="gelu",
        name="scipy",
        priority=10,  # its erf is several times slower than the polynomials above
        kernel="assay_gelu.backends.scipy:gelu",
        capabilities=assay.Capabilities(
            dtypes=frozenset({"float32", "float64"}),
            writes_out=True,
            requires=assay.Requires(packages=("scipy>=1.11",)),
        ),
        description="scipy.special",
    )
    yield assay.Implementation(
        op="gelu",
        name="onnxruntime",
        priority=40,
        opener="assay_gelu.backends.onnxruntime:open_gelu",
        capabilities=assay.Capabilities(
            thread_safe=True,
            requires=assay.Requires(packages=("onnx>=1.16", "onnxruntime>=1.20")),
        ),
        description="ONNX Runtime on the CPU",
    )
    yield assay.Implementation(
        op="gelu",
        name="torch",
        priority=40,
        opener="assay_gelu.backends.torch:open_gelu",
        capabilities=assay.Capabilities(
            dtypes=frozenset({"float32", "float64"}),
            writes_out=True,
            thread_safe=True,
            requires=assay.Requires(packages=("torch>=2.3",)),
        ),
        description="PyTorch on the CPU",
    )
