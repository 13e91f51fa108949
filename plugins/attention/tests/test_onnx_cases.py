"""ONNX's own test cases of Attention, built in memory and said in the words of our contract."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import assay
import numpy as np
import onnx
import pytest

OUT_OF_CONTRACT = {
    "bfloat16": "attention takes float16, float32 and float64",
}
"""Why a base case is left out. What ONNX gives names of its own is said in other words by ``translate``:
heads side by side, past keys, ragged batches and windows. Only the first output is ours."""


def onnx_cases() -> dict[str, Any]:
    """Every base case (not the expansions into other operators) with its inputs and outputs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case import node

        # Importing the operator's module builds its cases. collect_testcases would import every operator's,
        # and could do so for one operator in a process only.
        importlib.import_module("onnx.backend.test.case.node.attention")
    return {
        case.name: case
        for case in node._NodeTestCases
        if [one.op_type for one in case.model.graph.node] == ["Attention"]
    }


CASES = onnx_cases()


def reason_to_leave_out(case: Any) -> str | None:
    """Why a case is out of contract, or None."""
    return OUT_OF_CONTRACT.get(case.data_sets[0][0][0].dtype.name)


COVERED = [name for name, case in CASES.items() if reason_to_leave_out(case) is None]


def restrict(mask: Any, seen: Any) -> Any:
    """A mask in which only what is seen as well takes part."""
    if mask is None:
        return seen
    return mask & seen if mask.dtype == bool else np.where(seen, mask, mask.dtype.type(-np.inf))


def translate(case: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of our attention for a case of ONNX's."""
    node = case.model.graph.node[0]
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    given = iter(case.data_sets[0][0])
    present = [next(given) if name else None for name in node.input]
    q, k, v, mask, past_key, past_value, lengths = present + [None] * (7 - len(present))
    if q.ndim == 3:
        heads, key_heads = attributes["q_num_heads"], attributes["kv_num_heads"]
        q, k, v = (
            array.reshape(*array.shape[:2], n, -1).swapaxes(1, 2)
            for array, n in ((q, heads), (k, key_heads), (v, key_heads))
        )
    offset = 0
    if past_key is not None:
        k, v = np.concatenate([past_key, k], axis=2), np.concatenate([past_value, v], axis=2)
        offset = past_key.shape[2]
    length, keys = q.shape[2], k.shape[2]
    if mask is not None and mask.shape[-1] < keys:
        hidden = False if mask.dtype == bool else -np.inf
        widths = [(0, 0)] * (mask.ndim - 1) + [(0, keys - mask.shape[-1])]
        mask = np.pad(mask, widths, constant_values=hidden)
    causal = bool(attributes.get("is_causal", 0))
    key = np.arange(keys)
    query = np.arange(length)[:, None] + offset
    if lengths is not None:
        filled = lengths[:, None, None, None]
        mask = restrict(mask, key < filled)
        query = query + filled - length
        if causal:
            mask, causal = restrict(mask, key <= query), False
    left, right = attributes.get("left_window_size", -1), attributes.get("right_window_size", -1)
    if left >= 0:
        mask = restrict(mask, key >= query - left)
    if right >= 0:
        mask = restrict(mask, key <= query + right)
    params = {"causal": causal, "causal_offset": offset, "softcap": attributes.get("softcap", 0.0)}
    return (q, k, v), {**params, "mask": mask, "scale": attributes.get("scale")}


def test_nearly_every_case_is_covered():
    """Of more than ninety base cases only those of a foreign dtype are left out."""
    assert len(CASES) > 90
    assert len(COVERED) > 85


@pytest.mark.parametrize("name", COVERED)
def test_onnx_case(attention, name):
    """The published first output, within ONNX's own tolerance."""
    case = CASES[name]
    arrays, params = translate(case)
    if attention.serving == "attention.torch" and params["softcap"]:
        with pytest.raises(assay.NoImplementation, match=r"takes softcap in \{0.0\}"):
            attention(*arrays, **params)
        return
    got = attention(*arrays, **params)
    expected = case.data_sets[0][1][0]
    if expected.ndim == 3:
        got = got.swapaxes(1, 2).reshape(expected.shape)
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(got, expected, rtol=case.rtol, atol=case.atol)
