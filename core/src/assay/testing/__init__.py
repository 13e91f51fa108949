"""For authors of plugins and programs: prove an implementation in pytest, break one on purpose, test a gate.

Nothing here is imported by a program that serves, and pytest only where the suite is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from assay.testing.decoys import Decoys
from assay.testing.faults import FAULTS, Faulty
from assay.testing.strength import Specimens, Strength, gate_strength

if TYPE_CHECKING:
    from assay.testing.suite import ImplementationSuite

__all__ = ["FAULTS", "Decoys", "Faulty", "ImplementationSuite", "Specimens", "Strength", "gate_strength"]


def __getattr__(name: str) -> Any:
    if name == "ImplementationSuite":
        from assay.testing.suite import ImplementationSuite

        return ImplementationSuite
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
