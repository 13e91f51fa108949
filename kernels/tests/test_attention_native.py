"""The native attention against its definition in float64."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

Array = NDArray[Any]
Float64 = NDArray[np.float64]

EDGES = (1, 2, 7, 8, 9, 23, 24, 25, 47, 48, 49, 63, 64, 65, 127, 128, 129)
"""Lengths on both sides of the usual tiles, and of the kernel's own: lanes, three times the lanes, blocks."""

MANY = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def scores(q: Array, k: Array, scale: float | None = None) -> Float64:
    """q k^T times the scale: (..., heads, length, keys)."""
    group = q.shape[-3] // k.shape[-3] if q.ndim > 2 and k.shape[-3] else 1
    repeated = np.repeat(k, group, axis=-3) if q.ndim > 2 else k
    factor = 1 / np.sqrt(q.shape[-1]) if scale is None else scale
    return np.asarray(q.astype(np.float64) @ repeated.astype(np.float64).swapaxes(-1, -2) * factor)


def reference(
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None = None,
    *,
    causal: bool = False,
    causal_offset: int = 0,
    scale: float | None = None,
    softcap: float = 0.0,
) -> Float64:
    """softmax(cap(scores) + mask) v, with zeros where nothing takes part."""
    score = scores(q, k, scale)
    if softcap:
        score = softcap * np.tanh(score / softcap)
    if mask is not None:
        score = np.where(mask, score, -np.inf) if mask.dtype == np.bool_ else score + mask
    length, keys = score.shape[-2:]
    if causal:
        score = np.where(np.arange(keys) <= np.arange(length)[:, None] + causal_offset, score, -np.inf)
    if not keys:
        return np.zeros((*q.shape[:-1], v.shape[-1]))
    highest = score.max(axis=-1, keepdims=True)
    weight = np.exp(score - np.where(np.isneginf(highest), 0, highest))
    total = weight.sum(axis=-1, keepdims=True)
    values = np.repeat(v, q.shape[-3] // max(v.shape[-3], 1), axis=-3) if q.ndim > 2 else v
    return np.asarray(weight @ values.astype(np.float64) / np.where(total == 0, 1, total))


def assert_close(
    found: Array, q: Array, k: Array, v: Array, mask: Array | None = None, **params: Any
) -> None:
    """Hold a result to 2e-6 while scores stay within 6, above that to 2e-6 times the largest / 3."""
    right = reference(q, k, v, mask, **params)
    assert found.shape == right.shape
    assert found.dtype == np.float32
    largest = float(np.abs(scores(q, k, params.get("scale"))).max(initial=0))
    limit = 2e-6 * (largest / 3 if largest > 6 else 1)
    np.testing.assert_allclose(found, right, rtol=0, atol=limit * max(1, float(np.abs(v).max(initial=0)) / 5))


def noise(seed: int, *shapes: tuple[int, ...]) -> list[Array]:
    """Arrays of normal noise."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]


@given(
    length=st.sampled_from(EDGES),
    keys=st.sampled_from(EDGES) | st.integers(0, 300),
    depth=st.sampled_from([1, 3, 17, 63, 64, 65, 80, 127, 128, 256]) | st.integers(1, 256),
    value_depth=st.sampled_from([0, 1, 5, 64, 128]) | st.integers(0, 130),
    leading=st.lists(st.integers(0, 3), max_size=2),
    key_heads=st.integers(1, 3),
    group=st.integers(1, 4),
    causal=st.none() | st.sampled_from([0, 1, 5, -1, -3, 60, -200]),
    threads=st.integers(1, 4),
    seed=st.integers(0, 2**16),
)
@MANY
def test_any_sizes(
    native: ModuleType,
    length: int,
    keys: int,
    depth: int,
    value_depth: int,
    leading: list[int],
    key_heads: int,
    group: int,
    causal: int | None,
    threads: int,
    seed: int,
) -> None:
    """Lengths, depths, leading axes, grouped heads and the causal rule, in every combination."""
    q, k, v = noise(
        seed,
        (*leading, key_heads * group, length, depth),
        (*leading, key_heads, keys, depth),
        (*leading, key_heads, keys, value_depth),
    )
    rule: dict[str, Any] = {} if causal is None else {"causal": True, "causal_offset": causal}
    assert_close(native.attention(q, k, v, **rule, threads=threads), q, k, v, **rule)


@pytest.mark.parametrize("length", [1, 63, 64, 65, 127, 128, 129])
@pytest.mark.parametrize("keys", [1, 63, 64, 65, 127, 128, 129])
def test_tile_edges(native: ModuleType, length: int, keys: int) -> None:
    """Every pair of lengths around the usual tiles."""
    q, k, v = noise(length * keys, (2, length, 64), (2, keys, 64), (2, keys, 64))
    assert_close(native.attention(q, k, v), q, k, v)
    assert_close(native.attention(q, k, v, causal=True), q, k, v, causal=True)


def test_without_heads(native: ModuleType) -> None:
    """(length, depth) is one head, with or without a mask."""
    q, k, v, bias = noise(1, (19, 24), (37, 24), (37, 5), (19, 37))
    assert_close(native.attention(q, k, v), q, k, v)
    assert_close(native.attention(q, k, v, mask=bias), q, k, v, bias)
    assert_close(native.attention(q, k, v, mask=bias[0] > 0, causal=True), q, k, v, bias[0] > 0, causal=True)


@given(
    data=st.data(),
    kind=st.sampled_from(["boolean", "additive", "with minus infinity"]),
    seed=st.integers(0, 999),
)
@MANY
def test_masks(native: ModuleType, data: st.DataObject, kind: str, seed: int) -> None:
    """Masks of each kind, of every shape that broadcasts and any layout, grouped heads, the causal rule."""
    sizes = (2, 6, data.draw(st.sampled_from(EDGES), "length"), data.draw(st.sampled_from(EDGES), "keys"))
    axes = data.draw(st.integers(0, 4), "axes")
    shape = tuple(data.draw(st.sampled_from([1, size]), "size") for size in sizes[4 - axes :])
    rng = np.random.default_rng(seed)
    steps = [data.draw(st.sampled_from([1, 2, -1]), "step") for _ in shape]
    full = rng.normal(0, 1.5, [size * abs(step) for size, step in zip(shape, steps, strict=True)])
    if kind == "with minus infinity":
        full[rng.random(full.shape) < 0.3] = -np.inf
    index: tuple[Any, ...] = (..., *(slice(None, None, step) for step in steps))
    mask: Array
    if kind == "boolean":
        mask = np.asarray(full > 0)[index]
    else:
        off = data.draw(st.integers(0, 3), "bytes off alignment")
        room = np.zeros(4 * full.size + off, np.uint8)[off:].view(np.float32).reshape(full.shape)
        room[...] = full
        mask = room[index]
    if data.draw(st.booleans(), "transposed") and mask.ndim >= 2:
        mask = np.asfortranarray(mask)
    causal = data.draw(st.booleans(), "causal")
    q, k, v = noise(seed, (2, 6, sizes[2], 16), (2, 3, sizes[3], 16), (2, 3, sizes[3], 8))
    found = native.attention(
        q, k, v, mask=mask, causal=causal, threads=data.draw(st.integers(1, 3), "threads")
    )
    assert_close(found, q, k, v, mask, causal=causal)


@pytest.mark.parametrize("keys", [1, 5, 128, 300])
@pytest.mark.parametrize("kind", ["boolean", "additive", "causal"])
def test_rows_that_see_nothing_are_zeros(native: ModuleType, keys: int, kind: str) -> None:
    """A query whose keys are all left out gives zeros, not NaN, and its neighbours are right."""
    q, k, v = noise(2, (2, 70, 16), (2, keys, 16), (2, keys, 16))
    takes_part = np.random.default_rng(3).random((70, keys)) < 0.5
    takes_part[[0, 7, 69]] = False
    takes_part[1] = True
    kinds: dict[str, dict[str, Any]] = {
        "boolean": {"mask": takes_part},
        "additive": {"mask": np.where(takes_part, np.float32(0), np.float32(-np.inf))},
        "causal": {"causal": True, "causal_offset": -8},
    }
    params = kinds[kind]
    found = native.attention(q, k, v, **params)
    assert_close(found, q, k, v, **params)
    empty = slice(0, 8) if kind == "causal" else [0, 7, 69]
    np.testing.assert_array_equal(found[:, empty], 0)
    assert np.abs(found[:, 1 if kind != "causal" else 8]).min() > 0


def test_zero_keys_give_zeros(native: ModuleType) -> None:
    """Without keys every query gives zeros; without queries or values there is nothing to give."""
    q, k, v = noise(4, (2, 9, 16), (2, 0, 16), (2, 0, 5))
    for params in ({}, {"causal": True}, {"mask": np.zeros((9, 0), bool)}):
        np.testing.assert_array_equal(native.attention(q, k, v, **params), np.zeros((2, 9, 5), np.float32))
    q, k, v = noise(4, (2, 0, 16), (2, 3, 16), (2, 3, 5))
    assert native.attention(q, k, v).shape == (2, 0, 5)
    q, k, v = noise(4, (0, 3, 16), (0, 3, 16), (0, 3, 5))
    assert native.attention(q, k, v).shape == (0, 3, 5)


@given(
    softcap=st.sampled_from([0.5, 2.0, 20.0, 50.0, 1000.0]),
    size=st.sampled_from([1e-3, 1.0, 30.0]),
    masked=st.booleans(),
    seed=st.integers(0, 999),
)
@MANY
def test_softcap(native: ModuleType, softcap: float, size: float, masked: bool, seed: int) -> None:
    """Scores are capped before the mask is added, from linear to saturated."""
    q, k, v, bias = noise(seed, (2, 50, 32), (2, 70, 32), (2, 70, 32), (50, 70))
    q *= np.float32(size)
    bias *= np.float32(softcap if masked else 0)
    mask = bias if masked else None
    found = native.attention(q, k, v, mask=mask, softcap=softcap)
    right = reference(q, k, v, mask, softcap=softcap)
    largest = min(float(np.abs(scores(q, k)).max()), softcap) + float(np.abs(bias).max())
    np.testing.assert_allclose(found, right, rtol=0, atol=2e-6 * max(1, largest / 3))


@pytest.mark.parametrize("scale", [0.3, 1.0, 0.01, 0.0, -0.5, np.float32(0.2), 2])
def test_scale(native: ModuleType, scale: float) -> None:
    """Any factor of the scores, also none and a negative one."""
    q, k, v = noise(5, (3, 40, 16), (3, 60, 16), (3, 60, 16))
    assert_close(native.attention(q, k, v, scale=scale), q, k, v, scale=float(scale))


@pytest.mark.parametrize("size", [5, 30, 300, 1e4, 1e8, 1e18])
def test_huge_scores(native: ModuleType, size: float) -> None:
    """Scores far beyond the range of exp are right as far as float32 tells them apart."""
    q, k, v = noise(6, (2, 70, 64), (2, 200, 64), (2, 200, 64))
    q *= np.float32(size)
    found = native.attention(q, k, v)
    assert np.isfinite(found).all()
    right = reference(q, k, v)
    score = np.sort(scores(q, k), axis=-1)
    largest = float(np.abs(score).max())
    clear = score[..., -1] - score[..., -2] > 20 + 1e-5 * largest  # one key gets all the weight
    np.testing.assert_allclose(found[clear], right[clear], rtol=0, atol=1e-6)
    if size <= 300:
        np.testing.assert_allclose(found, right, rtol=0, atol=2e-6 * largest / 3)


def test_equal_scores_average(native: ModuleType) -> None:
    """Equal scores, also huge ones, give the mean of the values; a single key gives its value exactly."""
    q, k, v = noise(7, (2, 30, 16), (2, 1000, 16), (2, 1000, 16))
    mean = np.broadcast_to(v.astype(np.float64).mean(axis=1, keepdims=True), q.shape)
    np.testing.assert_allclose(native.attention(np.zeros_like(q), k, v), mean, atol=1e-6)
    np.testing.assert_allclose(native.attention(q * 1e6, np.ones_like(k), v), mean, atol=1e-6)
    np.testing.assert_array_equal(native.attention(q, k[:, :1], v[:, :1]), np.repeat(v[:, :1], 30, axis=1))


@pytest.mark.parametrize("where", [0, 127, 128, 700, 1499])
def test_one_dominant_key_far_away(native: ModuleType, where: int) -> None:
    """A key anywhere in a long sequence is found, and what came before and after it fades."""
    q, k, v = noise(8, (2, 5, 64), (2, 1500, 64), (2, 1500, 64))
    k[:, where] = 40 * q[:, 2]
    found = native.attention(q, k, v)
    assert_close(found, q, k, v)
    np.testing.assert_allclose(found[:, 2], v[:, where], atol=1e-6)


@pytest.mark.parametrize("low", [-1e9, -3e38, np.finfo(np.float32).min])
def test_very_negative_finite_masks(native: ModuleType, low: float) -> None:
    """They leave a key out where others take part; where none does, float32 can't tell keys apart."""
    q, k, v = noise(9, (2, 60, 32), (2, 300, 32), (2, 300, 32))
    takes_part = np.random.default_rng(10).random((60, 300)) < 0.5
    takes_part[:, 0] = True
    mask = np.where(takes_part, np.float32(0), np.float32(low))
    assert_close(native.attention(q, k, v, mask=mask), q, k, v, takes_part)
    mask[[0, 33]] = low
    found = native.attention(q, k, v, mask=mask)
    assert np.isfinite(found).all()
    assert_close(found[:, 1:33], q[:, 1:33], k, v, takes_part[1:33])
    if low < -1e30:
        mean = v.astype(np.float64).mean(axis=1)
        np.testing.assert_allclose(found[:, 33], mean, atol=1e-6)


@pytest.mark.parametrize("name", ["q", "k", "v"])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite(native: ModuleType, name: str, number: float) -> None:
    """They end in NaN, or in what infinite scores come to, where they reach, and nowhere else."""
    q, k, v = noise(11, (2, 60, 8), (2, 150, 8), (2, 150, 8))
    clean = native.attention(q, k, v)
    {"q": q, "k": k, "v": v}[name][1, 33, 3] = number
    found = native.attention(q, k, v)
    np.testing.assert_array_equal(found[0], clean[0])
    if name == "q":
        assert np.isnan(found[1, 33]).all()
        np.testing.assert_array_equal(np.delete(found[1], 33, axis=0), np.delete(clean[1], 33, axis=0))
    elif name == "k":
        # A score of plus infinity is NaN, one of minus infinity leaves its key out.
        reached = np.isnan(found[1]).all(axis=-1)
        expected = np.ones(60, bool) if np.isnan(number) else q[1, :, 3] * number > 0
        np.testing.assert_array_equal(reached, expected)
    else:
        assert not np.isfinite(found[1, :, 3]).any()
        np.testing.assert_array_equal(np.delete(found[1], 3, axis=-1), np.delete(clean[1], 3, axis=-1))


def test_a_boolean_mask_hides_scores_that_are_not_finite(native: ModuleType) -> None:
    """A key of NaN whose value is finite, left out by a boolean mask or the causal rule, changes nothing."""
    q, k, v = noise(12, (1, 40, 8), (1, 60, 8), (1, 60, 8))
    takes_part = np.ones(60, bool)
    takes_part[50:] = False
    right = native.attention(q, k, v, mask=takes_part)
    later = native.attention(q, k, v, causal=True)
    k[:, 50] = np.nan
    np.testing.assert_array_equal(native.attention(q, k, v, mask=takes_part), right)
    np.testing.assert_array_equal(native.attention(q, k, v, causal=True), later)


def test_denormal_numbers_count_as_zero(native: ModuleType) -> None:
    """Numbers below 1e-38 in any input give what zeros give, to within their own size."""
    q, k, v = noise(13, (2, 30, 16), (2, 50, 16), (2, 50, 16))
    right = native.attention(np.zeros_like(q), k, v)
    np.testing.assert_allclose(native.attention(np.full_like(q, 1e-40), k, v), right, atol=1e-7)
    assert np.abs(native.attention(q, k, np.full_like(v, 1e-40))).max() <= 1e-38


def laid_out(data: st.DataObject, array: Array) -> Array:
    """The same numbers in another order of axes, with steps and off alignment."""
    order = data.draw(st.permutations(range(array.ndim)), "order of axes")
    steps = [data.draw(st.sampled_from([1, 2, -1]), "step") for _ in array.shape]
    off = data.draw(st.integers(0, 3), "bytes off alignment")
    full = [array.shape[axis] * abs(steps[axis]) for axis in order]
    room = np.zeros(4 * int(np.prod(full)) + off, np.uint8)[off:].view(np.float32).reshape(full)
    index: tuple[Any, ...] = (..., *(slice(None, None, step) for step in steps))
    view: Array = room.transpose(np.argsort(order))[index]
    view[...] = array
    return view


@given(data=st.data(), seed=st.integers(0, 999))
@MANY
def test_any_layout(native: ModuleType, data: st.DataObject, seed: int) -> None:
    """Any strides and alignment of q, k, v and out give the same numbers; the inputs stay as they were."""
    q, k, v = noise(seed, (2, 4, 30, 12), (2, 2, 41, 12), (2, 2, 41, 7))
    right = native.attention(q, k, v)
    inputs = [laid_out(data, array) for array in (q, k, v)]
    out = laid_out(data, np.full_like(right, np.nan))
    assert native.attention(*inputs, out=out) is out
    np.testing.assert_array_equal(out, right)
    for laid, array in zip(inputs, (q, k, v), strict=True):
        np.testing.assert_array_equal(laid, array)


@pytest.mark.parametrize("name", ["q", "k", "v", "mask"])
def test_out_may_overlap_an_input(native: ModuleType, name: str) -> None:
    """The result is that of separate arrays."""
    arrays = dict(zip("qkv", noise(14, (2, 64, 64), (2, 64, 64), (2, 64, 64)), strict=True))
    arrays["mask"] = noise(15, (2, 64, 64))[0]
    right = native.attention(**arrays)
    room = np.empty(2 * 64 * 64 + 7, np.float32)
    moved = room[7:].reshape(2, 64, 64)
    moved[...] = arrays[name]
    out = room[:-7].reshape(2, 64, 64)
    native.attention(**{**arrays, name: moved}, out=out)
    np.testing.assert_array_equal(out, right)


@pytest.mark.parametrize("causal", [False, True])
def test_threads_change_nothing(native: ModuleType, causal: bool) -> None:
    """The result is the same to the last bit for any number of threads."""
    q, k, v, bias = noise(16, (6, 200, 64), (3, 300, 64), (3, 300, 64), (200, 300))
    right = native.attention(q, k, v, bias, causal=causal)
    for threads in (2, 3, 8, 100):
        np.testing.assert_array_equal(native.attention(q, k, v, bias, causal=causal, threads=threads), right)
    np.testing.assert_array_equal(native.open_attention(2)(q, k, v, bias, causal=causal), right)


SHAPES = "expected q"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"q": np.zeros((2, 3, 4))}, TypeError, "q: expected float32, found dtype d"),
        ({"v": np.zeros((2, 5, 4), np.float16)}, TypeError, "v: expected float32, found dtype e"),
        ({"q": np.zeros((3, 4), np.float32)}, ValueError, SHAPES),
        ({"q": np.zeros(4, np.float32)}, ValueError, SHAPES),
        ({"q": np.zeros((3, 3, 4), np.float32)}, ValueError, SHAPES),
        ({"q": np.zeros((2, 3, 5), np.float32)}, ValueError, SHAPES),
        ({"v": np.zeros((2, 6, 4), np.float32)}, ValueError, SHAPES),
        ({"v": np.zeros((1, 5, 4), np.float32)}, ValueError, SHAPES),
        ({"k": np.zeros((0, 5, 4), np.float32), "v": np.zeros((0, 5, 4), np.float32)}, ValueError, SHAPES),
        ({"mask": np.zeros((3, 5))}, TypeError, r"mask: expected bool .* found dtype d"),
        ({"mask": np.zeros((3, 4), bool)}, ValueError, "mask: expected a shape that broadcasts"),
        ({"mask": np.zeros((1, 2, 3, 5), bool)}, ValueError, "mask: expected a shape that broadcasts"),
        ({"causal_offset": 0.5}, TypeError, "integer"),
        ({"scale": np.nan}, ValueError, "scale: expected a finite number, or None"),
        ({"softcap": -1.0}, ValueError, "softcap: expected a finite number from 0"),
        (
            {"out": np.zeros((2, 3, 5), np.float32)},
            ValueError,
            r"out: expected float32, shape \(2, 3, 4\), found",
        ),
        (
            {"out": np.zeros((2, 3, 4))},
            ValueError,
            r"out: expected float32, shape \(2, 3, 4\), found dtype d",
        ),
        ({"threads": 0}, ValueError, "threads: expected 1 or more"),
    ],
)
def test_what_is_refused(
    native: ModuleType, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    """Errors name the argument, what was expected of it and what was found."""
    plain = {name: np.zeros((2, n, 4), np.float32) for name, n in (("q", 3), ("k", 5), ("v", 5))}
    with pytest.raises(error, match=message):
        native.attention(**(plain | change))


@pytest.mark.parametrize("offset", [2**62, 2**70, -(2**62), -(2**70), np.int64(3)])
def test_any_whole_number_is_an_offset(native: ModuleType, offset: int) -> None:
    """Offsets far outside the sequence show all keys or none."""
    q, k, v = noise(17, (1, 9, 8), (1, 20, 8), (1, 20, 8))
    near = max(min(int(offset), 100), -100)
    found = native.attention(q, k, v, causal=True, causal_offset=offset)
    assert_close(found, q, k, v, causal=True, causal_offset=near)


OUT_OF_CONTRACT = {
    "float16": "the kernel takes float32; the framework converts",
    "bfloat16": "the kernel takes float32; the framework converts",
    "past_key": "the caller joins past and present keys",
    "nonpad_kv_seqlen": "the caller cuts or masks padded keys",
    "left_window_size": "the caller gives a window as a mask",
}
"""Why a base case is left out, by the dtype, input or attribute that is not ours. Of several outputs only
the first is compared."""


def onnx_cases() -> dict[str, Any]:
    """ONNX's own base cases of Attention, built in memory."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case import node

        importlib.import_module("onnx.backend.test.case.node.attention")
    cases = [c for c in node._NodeTestCases if [n.op_type for n in c.model.graph.node] == ["Attention"]]
    return {case.name: case for case in cases}


def attributes(case: Any) -> dict[str, Any]:
    """The attributes of a case, without a window that is none."""
    values = {a.name: onnx.helper.get_attribute_value(a) for a in case.model.graph.node[0].attribute}
    return {name: value for name, value in values.items() if "window_size" not in name or value >= 0}


def is_covered(case: Any) -> bool:
    """Whether our contract covers a case."""
    features = {case.data_sets[0][0][0].dtype.name, *case.model.graph.node[0].input, *attributes(case)}
    return not features & OUT_OF_CONTRACT.keys()


CASES = onnx_cases()
COVERED = sorted(name for name, case in CASES.items() if is_covered(case))


def test_most_cases_are_covered() -> None:
    """The names above are ONNX's, and what they leave is more than half."""
    names = {name for case in CASES.values() for name in (*case.model.graph.node[0].input, *attributes(case))}
    assert OUT_OF_CONTRACT.keys() - {"float16", "bfloat16"} <= names
    assert len(COVERED) > len(CASES) / 2


@pytest.mark.parametrize("name", COVERED)
def test_onnx_case(native: ModuleType, name: str) -> None:
    """The published first output, within ONNX's own tolerance."""
    case = CASES[name]
    given = attributes(case)
    q, k, v, *rest = case.data_sets[0][0]
    (right, *_) = case.data_sets[0][1]
    if q.ndim == 3:  # the heads side by side
        q, k, v = (
            array.reshape(*array.shape[:2], heads, -1).swapaxes(1, 2)
            for array, heads in zip(
                (q, k, v), (given["q_num_heads"], given["kv_num_heads"], given["kv_num_heads"]), strict=True
            )
        )
    found = native.attention(
        q,
        k,
        v,
        mask=rest[0] if rest else None,
        causal=bool(given.get("is_causal", 0)),
        scale=given.get("scale"),
        softcap=given.get("softcap", 0.0),
    )
    if right.ndim == 3:
        found = found.swapaxes(1, 2).reshape(right.shape)
    np.testing.assert_allclose(found, right, rtol=case.rtol, atol=case.atol)
