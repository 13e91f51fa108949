"""ONNX's own test cases of Gelu, built in memory."""

from __future__ import annotations

import importlib
import warnings

import numpy as np
import onnx
import pytest


def onnx_cases():
    """Every base case (not the expansions into other operators) with its inputs and outputs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case import node

        # Importing the operator's module builds its cases. collect_testcases would import every operator's,
        # and could do so for one operator in a process only.
        importlib.import_module("onnx.backend.test.case.node.gelu")
    return {
        case.name: case
        for case in node._NodeTestCases
        if [one.op_type for one in case.model.graph.node] == ["Gelu"]
    }


CASES = onnx_cases()


def test_there_are_cases():
    """Both forms, one axis and three; none is out of contract."""
    assert {f"test_gelu_{form}_{i}" for form in ("default", "tanh") for i in (1, 2)} <= set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_onnx_case(gelu, name):
    """The published output, within ONNX's own tolerance."""
    case = CASES[name]
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in case.model.graph.node[0].attribute}
    for inputs, outputs in case.data_sets:
        approximate = attributes.get("approximate", b"none").decode()
        np.testing.assert_allclose(
            gelu(inputs[0], approximate=approximate), outputs[0], rtol=case.rtol, atol=case.atol
        )
