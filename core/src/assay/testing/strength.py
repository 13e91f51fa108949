"""How strong a gate is: wrong kernels that must be rejected, right ones that must not be, over many seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from assay.contract.candidate import Candidate
from assay.contract.capabilities import Capabilities
from assay.contract.device import Plan
from assay.contract.implementation import Implementation
from assay.contract.operation import Operation
from assay.devices.inventory import Inventory
from assay.negotiation.exam import Exam, ProofFailed
from assay.negotiation.loading import load
from assay.negotiation.proof import prove
from assay.registry import LIVE

F = TypeVar("F", bound=Callable[..., Any])


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


class Specimens:
    """Kernels for an operation, wrong ones and right ones in odd styles, collected by decorators.

    ::

        specimens = Specimens("gelu")

        @specimens.wrong(form="items", batch_sizes=(1, 10))
        def swapped_slots(x, *, approximate): ...
    """

    def __init__(self, op: str) -> None:
        self.op = op
        self.kernels: list[tuple[Implementation, bool]] = []

    def wrong(self, *, opener: bool = False, **capabilities: Any) -> Callable[[F], F]:
        """Add a kernel (or what opens one) that the gate must reject."""
        return self._add(False, opener, capabilities)

    def right(self, *, opener: bool = False, **capabilities: Any) -> Callable[[F], F]:
        """Add a kernel (or what opens one) that the gate must accept."""
        return self._add(True, opener, capabilities)

    def _add(self, is_right: bool, opener: bool, capabilities: Any) -> Callable[[F], F]:
        def add(kernel: F) -> F:
            implementation = Implementation(
                op=self.op,
                name=kernel.__name__.strip("_").replace("_", "-").lower(),
                kernel=None if opener else kernel,
                opener=kernel if opener else None,
                capabilities=Capabilities(**capabilities),
            )
            self.kernels.append((implementation, is_right))
            return kernel

        return add


def gate_strength(
    op: Operation[Any, Any], make: Callable[[], Specimens], *, seeds: Iterable[int] = range(20)
) -> Strength:
    """Prove every kernel with every seed, in this process.

    Args:
        op: Whose probes and tolerances are under test.
        make: Makes the kernels anew for each seed, so that none remembers an earlier proof.
        seeds: One proof of each kernel for each.
    """
    rows: dict[str, Row] = {}
    inventory = Inventory({})
    for seed in seeds:
        exam = Exam(seed, alone=True)
        for implementation, is_right in make().kernels:
            row = rows.setdefault(implementation.id, Row(implementation.id, is_right))
            row.proofs += 1
            why = verdict(op, implementation, inventory, exam)
            if why is not None:
                row.rejected += 1
                row.said[str(why)] += 1
    return Strength(op.name, list(rows.values()))


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
