"""Every implementation: sizes on both sides of a block, memory, precision, what cannot be seen."""

from __future__ import annotations

import assay
import numpy as np
import pytest
from assay_attention import ATTENTION
from assay_attention.reference import reference

EMPTY = "ONNX Runtime takes no empty sequences"


def noise(*shape, dtype=np.float32, seed=5):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(dtype)


def qkv(heads=2, length=5, keys=7, depth=16, dtype=np.float32):
    """Three different arrays of noise."""
    shapes = ((heads, length, depth), (heads, keys, depth), (heads, keys, depth))
    return tuple(noise(*shape, dtype=dtype, seed=i) for i, shape in enumerate(shapes))


def check(got, arrays, **params):
    """Hold a result against the reference within the contract's exact tolerance."""
    params = {**ATTENTION.defaults, **params}
    mask = params.pop("mask", None)
    expected = reference(*arrays, mask, **params)
    limit = ATTENTION.tolerance("", (*arrays, mask), params, expected, assay.Accuracy.EXACT).max_abs
    assert got.shape == expected.shape
    assert got.dtype == arrays[0].dtype
    error = np.abs(got.astype(np.float64) - expected)
    assert (error <= limit).all(), f"off by {error.max()}"


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("heads", "length", "keys"),
    [(1, 1, 1), (1, 1, 3000), (3000, 1, 2), (40, 33, 65), (2, 700, 513), (1, 1500, 1500), (2, 513, 700)],
)
def test_sizes(attention, heads, length, keys, causal):
    """Blocks of many short sequences, of one, and of a part of one."""
    arrays = qkv(heads, length, keys)

    check(attention(*arrays, causal=causal), arrays, causal=causal)


def test_grouped_heads_over_many_blocks(attention):
    """Heads that share a key head, more queries and keys than fit a block."""
    q, k, v = noise(2, 6, 300, 16), noise(2, 3, 400, 16), noise(2, 3, 400, 24)
    mask = np.random.default_rng(6).random((2, 1, 300, 400)) < 0.5

    check(
        attention(q, k, v, mask=mask, causal=True, causal_offset=50),
        (q, k, v),
        mask=mask,
        causal=True,
        causal_offset=50,
    )


@pytest.mark.parametrize("shape", [(), (65,), (1, 65), (33, 1), (33, 65), (3, 33, 65), (2, 1, 1, 65)])
@pytest.mark.parametrize("dtype", [bool, np.float32])
def test_masks(attention, shape, dtype):
    """Every way of broadcasting, of both kinds."""
    arrays = noise(2, 3, 33, 16), noise(2, 3, 65, 16), noise(2, 3, 65, 16, seed=9)
    mask = noise(*shape, seed=7) > -0.5 if dtype is bool else noise(*shape, seed=7)

    check(attention(*arrays, mask=np.asarray(mask, dtype)), arrays, mask=np.asarray(mask, dtype))


def test_several_leading_axes_with_a_mask(attention):
    """A mask broadcasts over the first of two leading axes."""
    arrays = tuple(noise(2, 3, 2, 5, 8, seed=i) for i in range(3))
    mask = np.random.default_rng(8).random((3, 1, 5, 5)) < 0.6

    check(attention(*arrays, mask=mask), arrays, mask=mask)


def test_half_precision(attention):
    """float16 is computed in float32 and rounded once, a float16 mask included."""
    arrays = qkv(dtype=np.float16)
    mask = noise(5, 7, dtype=np.float16)

    check(attention(*arrays, mask=mask), arrays, mask=mask)


def test_double_precision_keeps_its_digits(attention):
    """Who takes float64 computes in it: a part in 1e12."""
    arrays = qkv(dtype=np.float64)
    if attention.serving == "attention.onnxruntime":
        with pytest.raises(assay.NoImplementation, match="takes float32, not float64"):
            attention(*arrays)
        return

    np.testing.assert_allclose(attention(*arrays), reference(*arrays), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("factor", [10, 100, 1e4])
def test_huge_scores(attention, factor):
    """Far beyond what exp can take: no overflow, the largest score wins."""
    q, k, v = qkv(length=40, keys=50)

    check(attention(factor * q, k, v), (factor * q, k, v))


@pytest.mark.parametrize("shapes", [((2, 5, 8), (2, 0, 8)), ((2, 0, 8), (2, 5, 8)), ((0, 5, 8), (0, 5, 8))])
def test_empty(attention, shapes):
    """Without keys zeros, without queries or heads nothing."""
    q, k = (np.ones(shape, np.float32) for shape in shapes)
    if attention.serving == "attention.onnxruntime":
        with pytest.raises(assay.NoImplementation, match=EMPTY):
            attention(q, k, k)
        return

    np.testing.assert_array_equal(np.zeros(q.shape), attention(q, k, k))


@pytest.mark.parametrize("kind", ["boolean", "additive", "causal"])
def test_rows_that_see_nothing_are_zeros(attention, kind):
    """Never NaN, and their neighbours are not disturbed."""
    arrays = qkv(length=6)
    sees = np.ones((6, 7), bool)
    sees[:2] = False
    params = {
        "boolean": {"mask": sees},
        "additive": {"mask": np.where(sees, 0, -np.inf).astype(np.float32)},
        "causal": {"causal": True, "causal_offset": -2},
    }[kind]

    got = attention(*arrays, **params)
    np.testing.assert_array_equal(np.zeros((2, 2, 16)), got[:, :2])
    check(got, arrays, **params)


def test_caller_arrays(attention):
    """Transposed, reversed and read-only inputs are served and left alone; ``out`` is filled and returned."""
    wide = noise(7, 2, 16)
    frozen = wide.swapaxes(0, 1).copy()
    frozen.flags.writeable = False
    mask = np.broadcast_to(np.array([True, False, True, True, True, False, True]), (7, 7))
    for x in (wide.swapaxes(0, 1), wide.swapaxes(0, 1)[:, ::-1], frozen):
        before, out = x.copy(), np.full((2, 7, 16), np.nan, np.float32)
        assert attention(x, x, x, mask=mask, out=out) is out
        check(out, (before,) * 3, mask=mask)
        np.testing.assert_array_equal(before, x)


def test_softcap(attention):
    """The cap bends the scores before the mask is added."""
    q, k, v = qkv(length=30, keys=40)
    if attention.serving == "attention.torch":
        with pytest.raises(assay.NoImplementation, match="takes softcap"):
            attention(q, k, v, softcap=2.0)
        return
    for cap in (0.5, 2.0, 50.0):
        mask = noise(30, 40) * np.float32(cap)
        check(attention(5 * q, k, v, softcap=cap, mask=mask), (5 * q, k, v), softcap=cap, mask=mask)
    check(attention(500 * q, k, v, softcap=200.0), (500 * q, k, v), softcap=200.0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["q", "k", "v"])
def test_what_is_not_finite_stays_in_its_head(attention, value, place):
    """It spreads to what it reaches, without a crash or a warning, and leaves the other head alone."""
    arrays = dict(zip("qkv", qkv(), strict=True))
    expected = attention(**arrays)
    arrays[place][0, 3, 5] = value

    got = attention(**arrays)
    np.testing.assert_allclose(got[1], expected[1], atol=2e-6)


def test_numpy_scalars_are_parameters_too(attention):
    """A scale, an offset and a rule that come out of NumPy are taken as they are."""
    arrays = qkv()
    params = {"scale": np.float64(0.3), "causal": np.True_, "causal_offset": np.int64(2)}
    if attention.serving != "attention.torch":
        params["softcap"] = np.float64(2)

    check(attention(*arrays, **params), arrays, **params)
