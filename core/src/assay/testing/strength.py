"""How strong a gate is: wrong kernels that must be rejected, right ones that must not be, over many seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from assay.contract.candidate import Candidate
from assay.contract.device import Plan
from assay.contract.implementation import Implementation
from assay.contract.operation import Operation
from assay.devices.inventory import Inventory
from assay.negotiation.exam import Exam, ProofFailed
from assay.negotiation.loading import load
from assay.negotiation.proof import prove
from assay.registry import LIVE


@dataclass(slots=True)
class Row:
    """One kernel and its verdicts. ``said`` counts why it was rejected."""

    id: str
    right: bool
    proofs: int = 0
    rejected: int = 0
    said: Counter[str] = field(default_factory=Counter)

    @property
    def sound(self) -> bool:
        """Whether every verdict was the right one."""
        return self.rejected == (0 if self.right else self.proofs)


@dataclass(slots=True)
class Strength:
    """The verdicts over an operation's wrong and right kernels. ``str()`` is a table."""

    op: str
    rows: list[Row]

    @property
    def sound(self) -> bool:
        """Whether every wrong kernel was rejected every time and no right one ever."""
        return all(row.sound for row in self.rows)

    def __str__(self) -> str:
        width = max((len(row.id) for row in self.rows), default=0)
        lines = []
        for row in self.rows:
            mark = "ok" if row.sound else "!!"
            why = row.said.most_common(1)[0][0] if row.said else ""
            lines.append(
                f"{mark}  {'right' if row.right else 'wrong'}  {row.id:<{width}}  "
                f"{row.rejected:>3}/{row.proofs:<3}  {why}".rstrip()
            )
        wrong = [row for row in self.rows if not row.right]
        right = [row for row in self.rows if row.right]
        lines.append(
            f"{self.op}: {sum(row.sound for row in wrong)} of {len(wrong)} wrong kernels always rejected, "
            f"{sum(row.sound for row in right)} of {len(right)} right ones never"
        )
        return "\n".join(lines)


def gate_strength(
    op: Operation[Any, Any],
    wrong: Iterable[Implementation],
    right: Iterable[Implementation] = (),
    *,
    seeds: Sequence[int] = range(20),
) -> Strength:
    """Prove every kernel with every seed, in this process.

    Args:
        op: Whose probes and tolerances are under test.
        wrong: Kernels that the proof must reject.
        right: Kernels that it must accept.
        seeds: One proof of each kernel for each.
    """
    kernels = [(one, False) for one in wrong] + [(one, True) for one in right]
    rows = [Row(one.id, is_right) for one, is_right in kernels]
    inventory = Inventory({})
    for seed in seeds:
        exam = Exam(seed, alone=True)
        for (implementation, _), row in zip(kernels, rows, strict=True):
            row.proofs += 1
            why = verdict(op, implementation, inventory, exam)
            if why is not None:
                row.rejected += 1
                row.said[str(why)] += 1
    return Strength(op.name, rows)


def verdict(
    op: Operation[Any, Any], implementation: Implementation, inventory: Inventory, exam: Exam
) -> ProofFailed | None:
    """Why an implementation is rejected, or None."""
    capabilities = implementation.capabilities
    items = capabilities.form == "items"
    plan = Plan(
        device=inventory.get(capabilities.requires.device),
        batch_size=capabilities.batch_sizes.choose(op.presets["balanced"]) if items else 1,
        accuracy=capabilities.accuracy,
    )
    try:
        kernel = load(op, Candidate(implementation, LIVE, live=True), plan)
        try:
            prove(kernel, exam=exam)
        finally:
            kernel.close()
    except ProofFailed as failure:
        return failure
    return None
