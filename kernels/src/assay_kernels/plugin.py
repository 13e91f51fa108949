"""What this distribution offers: native kernels, one implementation per operation and instruction set.

Nothing compiled is imported here, and nothing looks at the CPU: which one serves is up to the negotiation.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator

import assay

PRIORITY = 60
"""Native. The wider sets rank above the narrower ones."""

FEATURES = {
    "baseline": frozenset[str](),
    "avx2": frozenset({"avx2", "fma"}),
    "avx512": frozenset({"avx2", "fma", "avx512f", "avx512dq", "avx512bw", "avx512vl"}),
}
"""Instruction sets, narrowest first, and the CPU features that they were compiled with."""

OPERATIONS = {
    "mel": assay.Capabilities(
        dtypes=frozenset({"float32", "int16"}),
        strided=True,
        writes_out=True,
        checks_finite=True,
        thread_safe=True,
    ),
    "gelu": assay.Capabilities(writes_out=True, thread_safe=True),
    "attention": assay.Capabilities(writes_out=True, thread_safe=True),
}


@assay.hookimpl
def assay_implementations() -> Iterator[assay.Implementation]:
    """One per operation and instruction set that this kind of machine may have."""
    x86 = platform.machine().lower() in {"x86_64", "amd64"}
    for rank, (name, features) in enumerate(FEATURES.items()):
        if features and not x86:
            continue
        for op, capabilities in OPERATIONS.items():
            yield assay.Implementation(
                op=op,
                name=f"native-{name}",
                priority=PRIORITY + rank,
                opener=f"assay_kernels.open:{name}.{op}",
                description=f"C++, compiled for {name}",
                capabilities=capabilities.model_copy(
                    update={"requires": assay.Requires(device="cpu", features=features)}
                ),
            )
