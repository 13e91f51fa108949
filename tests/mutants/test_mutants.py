"""The gate itself is tested by kernels that are wrong on purpose, and by right ones that look odd."""

from __future__ import annotations

import runpy
from pathlib import Path

import assay
import pytest
from assay.devices.inventory import Inventory
from assay.negotiation.exam import Exam
from assay.registry import discover
from assay.testing.strength import verdict

SEED = 0
"""One seed here; benchmarks/gate.py goes through twenty."""

OPERATIONS = discover().operations
KERNELS = [
    pytest.param(op, implementation, is_right, id=implementation.id)
    for op in ("mel", "gelu", "attention")
    for implementation, is_right in runpy.run_path(str(Path(__file__).with_name(f"{op}.py")))[
        "SPECIMENS"
    ].kernels
]


def test_there_are_enough_of_them():
    """At least forty wrong ones and fifteen right ones, over three operations."""
    rights = [param.values[2] for param in KERNELS]
    assert rights.count(False) >= 40
    assert rights.count(True) >= 15
    assert {param.values[0] for param in KERNELS} == {"mel", "gelu", "attention"}


@pytest.fixture(scope="module")
def exam():
    """The questions, shared as by the candidates of one start."""
    return Exam(SEED)


@pytest.mark.filterwarnings("ignore")  # kernels may warn; whether they are right is another question
@pytest.mark.parametrize(("op", "implementation", "is_right"), KERNELS)
def test_the_gate_knows_right_from_wrong(op, implementation: assay.Implementation, is_right, exam):
    """A wrong kernel is rejected by a probe that the message names; a right one is not."""
    why = verdict(OPERATIONS[op], implementation, Inventory({}), exam)
    if is_right:
        assert why is None, why
    else:
        assert why is not None
        assert why.message.startswith("probe '")
