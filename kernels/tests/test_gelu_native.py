"""The native GELU against its definition in float64."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from numpy.typing import NDArray
from scipy.special import expit, ndtr

Array = NDArray[Any]
FORMS = ("none", "tanh")


def reference(x: Array, approximate: str = "none") -> NDArray[np.float64]:
    """x Phi(x), or with tanh's approximation of it, which is a logistic function of 2 u."""
    x = x.astype(np.float64)
    with np.errstate(over="ignore"):
        u = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
    return np.asarray(x * (ndtr(x) if approximate == "none" else expit(2 * u)))


def assert_close(found: Array, x: Array, approximate: str = "none") -> None:
    """Hold a result to 5e-7 of the definition."""
    assert found.shape == x.shape
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, reference(x, approximate), rtol=0, atol=5e-7)


@pytest.mark.parametrize("approximate", FORMS)
def test_the_whole_curve(native: ModuleType, approximate: str) -> None:
    """The largest error is 5e-7, from far below the knee to far above it."""
    assert_close(
        native.gelu(x := np.linspace(-14, 14, 400_001, dtype=np.float32), approximate=approximate),
        x,
        approximate,
    )


@pytest.mark.parametrize("approximate", FORMS)
def test_numbers_of_every_size(native: ModuleType, approximate: str) -> None:
    """Any pattern of bits that is a finite number gives a result within 5e-7."""
    bits = np.random.default_rng(1).integers(0, 2**32, 200_000, dtype=np.uint32)
    x = bits.view(np.float32)[np.isfinite(bits.view(np.float32))]
    assert_close(native.gelu(x, approximate=approximate), x, approximate)


@pytest.mark.parametrize("approximate", FORMS)
def test_relative_errors(native: ModuleType, approximate: str) -> None:
    """Digits are kept near zero, and most of them far down the negative side."""
    rng = np.random.default_rng(2)
    near_zero = (rng.choice([-1, 1], 50_000) * 10 ** rng.uniform(-30, -1, 50_000)).astype(np.float32)
    below = rng.uniform(-5, -3, 50_000).astype(np.float32)
    for x, limit in ((near_zero, 2e-6), (below, 0.02)):
        np.testing.assert_allclose(
            native.gelu(x, approximate=approximate), reference(x, approximate), rtol=limit
        )


@pytest.mark.parametrize("approximate", FORMS)
@pytest.mark.parametrize("count", [1, 37])
def test_numbers_that_need_care(native: ModuleType, approximate: str, count: int) -> None:
    """NaN and infinity stay, minus infinity and both zeros give a zero, the largest numbers are right."""
    x = np.array([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, -1e-40, 3.4e38, -3.4e38], np.float32)
    right = np.array([np.nan, np.nan, np.inf, 0, 0, 0, 0, 0, 3.4e38, 0], np.float32)
    found = native.gelu(np.repeat(x, count), approximate=approximate)
    np.testing.assert_array_equal(np.where(np.abs(found) < 1e-39, 0, found), np.repeat(right, count))


def strided(data: st.DataObject, shape: tuple[int, ...], seed: int) -> Array:
    """A float32 array of normal noise, of any axis order, steps, direction and alignment."""
    steps = data.draw(st.tuples(*[st.sampled_from([1, 2, 3, -1, -2]) for _ in shape]), "steps")
    order = data.draw(st.permutations(range(len(shape))), "order of axes")
    misaligned = data.draw(st.integers(0, 3), "bytes off alignment")
    full = [shape[axis] * abs(steps[axis]) for axis in order]
    room = np.zeros(4 * int(np.prod(full)) + misaligned, np.uint8)[misaligned:]
    base = room.view(np.float32).reshape(full)
    base[...] = 3 * np.random.default_rng(seed).standard_normal(full)
    index: tuple[Any, ...] = (..., *(slice(None, None, step) for step in steps))
    view: Array = base.transpose(np.argsort(order))[index]
    assert view.shape == shape
    return view


FEW = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@given(
    data=st.data(),
    shape=array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9) | st.tuples(st.integers(0, 300)),
    approximate=st.sampled_from(FORMS),
    seed=st.integers(0, 2**16),
)
@FEW
def test_any_shape_and_layout(
    native: ModuleType, data: st.DataObject, shape: tuple[int, ...], approximate: str, seed: int
) -> None:
    """Any strides and alignment of x and of out give the same numbers, and x stays as it was."""
    x = strided(data, shape, seed)
    before = x.copy()
    right = native.gelu(before, approximate=approximate)
    assert_close(right, x, approximate)
    out = strided(data, shape, seed + 1)
    assert native.gelu(x, approximate=approximate, out=out) is out
    np.testing.assert_array_equal(out, right)
    np.testing.assert_array_equal(native.gelu(x, approximate=approximate), right)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("approximate", FORMS)
@pytest.mark.parametrize("count", [1, 7, 100, 5000])
@pytest.mark.parametrize("shift", [-9, -1, 0, 1, 9])
def test_out_may_overlap_x(native: ModuleType, approximate: str, count: int, shift: int) -> None:
    """In place, and a few elements off it, the result is that of separate arrays."""
    room = np.random.default_rng(3).standard_normal(count + 9, dtype=np.float32)
    x, out = room[max(-shift, 0) :][:count], room[max(shift, 0) :][:count]
    right = native.gelu(x.copy(), approximate=approximate)
    native.gelu(x, approximate=approximate, out=out)
    np.testing.assert_array_equal(out, right)


@pytest.mark.parametrize("first", [0, 1, 5])
def test_arrays_larger_than_the_cache(native: ModuleType, first: int) -> None:
    """Where stores bypass the cache, above 32 MB, nothing is lost at any alignment and number of threads."""
    rng = np.random.default_rng(4)
    x = rng.standard_normal((1 << 22) + 8 + first, dtype=np.float32)[first:-3]
    right = np.concatenate([native.gelu(part) for part in np.array_split(x, 9)])
    for threads in (1, 3):
        out = np.full(x.size + 40, np.nan, np.float32)
        native.gelu(x, out=out[17 + first : 17 + first + x.size], threads=threads)
        np.testing.assert_array_equal(out[17 + first :][: x.size], right)
        assert np.isnan(out[: 17 + first]).all()
        assert np.isnan(out[17 + first + x.size :]).all()


@pytest.mark.parametrize("approximate", FORMS)
def test_threads_change_nothing(native: ModuleType, approximate: str) -> None:
    """The result is the same to the last bit for any number of threads."""
    x = np.random.default_rng(5).standard_normal((300, 1001), dtype=np.float32)
    right = native.gelu(x, approximate=approximate)
    for threads in (2, 3, 8):
        np.testing.assert_array_equal(native.gelu(x, approximate=approximate, threads=threads), right)
    opened = native.open_gelu(2)
    np.testing.assert_array_equal(opened(x, approximate=approximate), right)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": np.zeros(3)}, TypeError, "x: expected float32, found dtype d"),
        ({"x": [0.0, 1.0, 2.0]}, TypeError, "x: expected a numpy.ndarray, found list"),
        ({"x": np.zeros(3, ">f4")}, TypeError, "x: expected float32"),
        ({"approximate": "sigmoid"}, ValueError, "approximate: expected 'none' or 'tanh', found 'sigmoid'"),
        ({"out": np.zeros(4, np.float32)}, ValueError, r"out: expected float32, shape \(3,\), found"),
        ({"out": np.zeros(3)}, ValueError, r"out: expected float32, shape \(3,\), found dtype d"),
        ({"out": np.broadcast_to(np.float32(0), 3)}, ValueError, "out: expected a writable array"),
        ({"threads": 0}, ValueError, "threads: expected 1 or more"),
    ],
)
def test_what_is_refused(
    native: ModuleType, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    """Errors name the argument, what was expected of it and what was found."""
    arguments: dict[str, Any] = {"x": np.zeros(3, np.float32)} | change
    with pytest.raises(error, match=message):
        native.gelu(arguments.pop("x"), **arguments)


def onnx_cases() -> dict[str, Any]:
    """ONNX's own cases of Gelu, built in memory: all are in our contract."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case import node

        importlib.import_module("onnx.backend.test.case.node.gelu")
    cases = [case for case in node._NodeTestCases if [n.op_type for n in case.model.graph.node] == ["Gelu"]]
    return {case.name: case for case in cases}


CASES = onnx_cases()


@pytest.mark.parametrize("name", CASES or ["none found"])
def test_onnx_case(native: ModuleType, name: str) -> None:
    """The published output, within ONNX's own tolerance."""
    case = CASES[name]
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in case.model.graph.node[0].attribute}
    for (x,), (right,) in case.data_sets:
        found = native.gelu(x, approximate=attributes.get("approximate", b"none").decode())
        np.testing.assert_allclose(found, right, rtol=case.rtol, atol=case.atol)


def test_the_polynomials_are_those_of_the_script() -> None:
    """The committed header holds what the script that fits them prints, but for the last bits."""
    kernels = Path(__file__).parents[1]
    script = kernels / "tools" / "fit_polynomials.py"
    printed = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True).stdout
    committed = (kernels / "src" / "assay_kernels" / "cpp" / "polynomials.hpp").read_text()

    def numbers(text: str) -> list[float]:
        return [float.fromhex(literal) for literal in re.findall(r"(-?0x[0-9a-fp.+-]+)f", text)]

    assert len(numbers(committed)) > 200
    np.testing.assert_allclose(numbers(committed), numbers(printed), rtol=1e-4, atol=1e-9)
