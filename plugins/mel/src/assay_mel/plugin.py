"""What this distribution offers: the operation "mel" and its portable implementations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import assay

from assay_mel.operation import MEL

HERE = "assay_mel.backends"


@assay.hookimpl
def assay_operations() -> Iterator[assay.Operation[Any, Any]]:
    """The operation."""
    yield MEL


@assay.hookimpl
def assay_implementations() -> Iterator[assay.Implementation]:
    """The implementations, best first as far as a declaration can tell."""
    yield assay.Implementation(
        op="mel",
        name="asrfront",
        priority=42,
        kernel=f"{HERE}.asrfront:mel",
        description="the asrfront package (native, AVX2)",
        capabilities=assay.Capabilities(
            params={"center": frozenset({True})},
            requires=assay.Requires(packages=("asrfront>=0.2",)),
        ),
    )
    yield assay.Implementation(
        op="mel",
        name="librosa",
        priority=40,
        kernel=f"{HERE}.librosa:mel",
        description="librosa's transform and filters, in blocks",
        capabilities=assay.Capabilities(
            writes_out=True, requires=assay.Requires(packages=("librosa>=0.10",))
        ),
    )
    yield assay.Implementation(
        op="mel",
        name="numpy",
        priority=24,
        kernel=f"{HERE}.numpy:mel",
        description="numpy alone, straight from the samples",
        capabilities=assay.Capabilities(writes_out=True),
    )
    yield assay.Implementation(
        op="mel",
        name="frames",
        priority=22,
        kernel=f"{HERE}.frames:mel",
        description="the batch processor: any number of frames at a time",
        capabilities=assay.Capabilities(form="items", batch_sizes=assay.BatchSizes.any()),
    )
    yield assay.Implementation(
        op="mel",
        name="frame",
        priority=20,
        kernel=f"{HERE}.frame:mel",
        description="the single-frame processor",
        capabilities=assay.Capabilities(form="items", batch_sizes=assay.BatchSizes(1), writes_out=True),
    )
    yield assay.Implementation(
        op="mel",
        name="reference",
        priority=0,
        kernel=f"{HERE}.reference:mel",
        description="the float64 definition itself",
    )
