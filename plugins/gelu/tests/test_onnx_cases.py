"""ONNX's own test cases of Gelu, built in memory."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import pytest


def onnx_cases():
    """Every base case (not the expansions into other operators) with its inputs and outputs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # building the cases of other operators overflows on purpose
        from onnx.backend.test.case import node

        cases = node.collect_testcases("Gelu")
    return {case.name: case for case in cases if [one.op_type for one in case.model.graph.node] == ["Gelu"]}


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
