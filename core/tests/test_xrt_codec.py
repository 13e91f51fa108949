"""Codes and real values: each form against the definition, worked out in float64."""

import itertools
from types import SimpleNamespace

import npus
import numpy as np
import pytest
from assay import BufferFlag
from assay.devices.xrt.buffers import Buffers
from assay.devices.xrt.codec import Codes, Decoder, Encoder
from assay.devices.xrt.manifest import Buffer
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

SIZE, LENGTH = 6, 12


class Coded:
    """One buffer of a block, with its scales in a buffer of their own unless they stand behind the codes."""

    def __init__(self, role="input", dtype="int16", separate=False, **keys):
        self.buffer = Buffer(role=role, name="x", argument=3, dtype=dtype, item_shape=(LENGTH,), **keys)
        self.memory = {
            "codes": np.zeros(self.buffer.nbytes(SIZE), np.uint8),
            "scales": np.zeros(4 * SIZE, np.uint8),
        }
        regions = {name: Host(bytes) for name, bytes in self.memory.items()}
        self.codes = Codes(self.buffer, regions["codes"], regions["scales"] if separate else None, SIZE)

    @property
    def raw(self):
        """The codes as they lie in the buffer."""
        dtype = np.uint16 if self.buffer.dtype == "bfloat16" else np.dtype(self.buffer.dtype)
        return self.memory["codes"][: self.buffer.codes(SIZE)].view(dtype).reshape(SIZE, LENGTH)

    @property
    def scales(self):
        """The scales as the device reads them."""
        end = self.buffer.codes(SIZE)
        where = self.memory["codes"][end:] if self.buffer.scales_behind else self.memory["scales"]
        return where.view(np.float32).astype(np.float64)[:, None]

    def encode(self, values, **params):
        Encoder(self.buffer, SIZE).encode(values, params, self.codes)

    def decode(self, *inputs):
        out = np.full((SIZE, LENGTH), np.nan, np.float32)
        Decoder(self.buffer, SIZE).decode(self.codes, out, [one.codes for one in inputs])
        return out


class Host:
    """A region without a device."""

    def __init__(self, view):
        self.view = view

    def array(self, dtype, shape, start=0):
        return self.view[start : start + int(np.prod(shape)) * dtype.itemsize].view(dtype).reshape(shape)


def noise(scale=1.0):
    """Items whose loudness differs."""
    rng = np.random.default_rng(5)
    return (scale * rng.standard_normal((SIZE, LENGTH)) * 10 ** rng.uniform(-3, 2, (SIZE, 1))).astype("f")


@pytest.mark.parametrize(
    ("dtype", "quantisation"),
    [
        ("int8", {"scale": 0.5}),
        ("int8", {"scale": 0.25, "zero_point": 68}),
        ("uint8", {"scale": 0.25, "zero_point": 128}),
        ("int16", {"scale": 1 / 512}),
        ("int16", {"scale": 0.01, "clip": (-300, 500)}),
        ("uint16", {"scale": 0.01, "zero_point": 9}),
        ("int32", {"scale": 1e-9}),
    ],
)
def test_a_fixed_scale(dtype, quantisation):
    """code = round(value / scale) + zero point, clipped."""
    coded, values = Coded(dtype=dtype, quantisation=quantisation), noise()
    coded.encode(values)
    limits = np.iinfo(dtype)
    low, high = quantisation.get("clip", (limits.min, limits.max))
    exact = values.astype(np.float64) / quantisation["scale"] + quantisation.get("zero_point", 0)
    # A rounded product may fall on the other side of a half, and float32 has 24 digits.
    slack = 0.5 + np.abs(exact) * 2.0**-22
    assert (np.abs(coded.raw - np.clip(exact, low, high)) <= slack).all()
    assert coded.raw.min() >= low
    assert coded.raw.max() <= high


def test_infinities_are_clipped_where_the_scale_is_fixed():
    """As in a mask: minus infinity becomes the smallest code."""
    coded, values = Coded(quantisation={"scale": 1 / 512}), noise()
    values[2, 3], values[4, 5] = -np.inf, np.inf
    coded.encode(values)
    assert (coded.raw[2, 3], coded.raw[4, 5]) == (-32768, 32767)


@pytest.mark.parametrize("keys", [{"separate": True}, {"scales_behind": True}])
@pytest.mark.parametrize(("dtype", "top"), [("int8", 127), ("int16", 32767)])
def test_a_scale_from_the_data(dtype, top, keys):
    """Each item's largest value meets the largest code, and its scale is told to the device."""
    coded, values = Coded(dtype=dtype, quantisation={"scale": 0.1, "from_data": True}, **keys), noise()
    values[3] = 0
    coded.encode(values)
    peak = np.abs(values.astype(np.float64)).max(axis=1, keepdims=True)
    expected = np.where(peak > 0, peak / top, 0.1)
    assert np.allclose(coded.scales, expected, rtol=1e-6)
    assert (np.abs(coded.raw * coded.scales - values) <= expected * (0.5 + 1e-4)).all()
    assert (np.abs(coded.raw.astype(int)).max(axis=1) == np.where(peak[:, 0] > 0, top, 0)).all()


def test_an_item_does_not_depend_on_its_neighbours():
    """Alone or beside a louder one, the codes of an item are the same."""
    values = noise()
    alone, beside = (Coded(quantisation={"scale": 0.1, "from_data": True}) for _ in range(2))
    beside.encode(values)
    louder = values.copy()
    louder[1:] *= 1000
    alone.encode(louder)
    assert np.array_equal(alone.raw[0], beside.raw[0])


@settings(max_examples=200, deadline=None)
@given(
    hnp.arrays(
        np.float32,
        (SIZE, LENGTH),
        elements=st.floats(-(2.0**127), 2.0**127, width=32),
    )
)
def test_no_value_is_off_by_more_than_half_a_step(values):
    """From denormals to the largest numbers, nothing wraps around and nothing warns."""
    coded = Coded(quantisation={"scale": 1e-3, "from_data": True}, separate=True)
    coded.encode(values)
    steps = coded.scales
    assert (np.abs(coded.raw * steps - values) <= np.maximum(steps * 0.501, 7e-34)).all()


def test_a_range_of_real_values():
    """What lies outside is brought to its ends and no longer makes the scale coarse."""
    quantisation = {"scale": 1.0, "from_data": True, "range": (-8.0, float("inf"))}
    coded, values = Coded(quantisation=quantisation, separate=True), np.full((SIZE, LENGTH), 1.0, "f")
    values[:, 0] = -1e30
    values[0, 1] = -np.inf
    coded.encode(values)
    assert np.allclose(coded.scales, 8 / 32767)
    assert np.allclose(coded.raw * coded.scales, np.maximum(values, -8), atol=8 / 32767)


def test_a_parameter_as_a_factor():
    """The device gets the scale times a parameter of the request."""
    coded = Coded(quantisation={"scale": 0.5}, scales_behind=True, factor="scale")
    coded.encode(noise(), scale=0.125, softcap=0.0)
    assert (coded.scales == 0.0625).all()
    with pytest.raises(ValueError, match="factor = 'scale' of 'x' is none of softcap"):
        coded.encode(noise(), softcap=0.0)


@pytest.mark.parametrize("quantisation", [{"scale": 0.1}, {"scale": 0.1, "from_data": True}])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_no_code_says(quantisation, bad):
    """A NaN, or an infinity that would make a scale, is an exception and never a number."""
    values = noise()
    values[2, 2] = bad
    if bad == np.inf and "from_data" not in quantisation:
        return
    with pytest.raises(FloatingPointError):
        Coded(quantisation=quantisation).encode(values)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_floats_are_copied(dtype):
    """In and out, rounded to the dtype."""
    into, values = Coded(dtype=dtype), noise()
    into.encode(values)
    assert np.array_equal(into.raw, values.astype(dtype))
    back = Coded("output", dtype=dtype)
    back.memory["codes"][:] = into.memory["codes"]
    assert np.array_equal(back.decode(), values.astype(dtype).astype(np.float32))


def test_bfloat16():
    """The nearest of the numbers with 8 digits, halves to even; and back without loss."""
    values = noise()
    values[0, :6] = [1.0, 1.00390625, 1.01171875, -0.0, np.inf, np.nan]
    into = Coded(dtype="bfloat16")
    into.encode(values)
    back = Coded("output", dtype="bfloat16")
    back.memory["codes"][:] = into.memory["codes"]
    got = back.decode()
    assert got[0, :4].tolist() == [1.0, 1.0, 1.015625, 0.0]  # 1 + 1/256 lies half-way, and so does 1 + 3/256
    assert (got[0, 4], np.isnan(got[0, 5])) == (np.inf, True)
    finite = np.isfinite(values)
    assert (np.abs(got[finite] - values[finite]) <= np.abs(values[finite]) * 2.0**-8).all()


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32"])
def test_decoding_a_fixed_scale(dtype):
    """value = scale x (code - zero point), for every dtype of codes."""
    limits = np.iinfo(dtype)
    zero = 68 if dtype != "int32" else -5
    coded = Coded("output", dtype=dtype, quantisation={"scale": 0.05, "zero_point": zero})
    codes = np.random.default_rng(1).integers(limits.min, limits.max, (SIZE, LENGTH), dtype, endpoint=True)
    coded.raw[:] = codes
    expected = 0.05 * (codes.astype(np.float64) - zero)
    assert np.allclose(coded.decode(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("keys", [{"separate": True}, {"scales_behind": True}])
def test_decoding_scales_of_the_device(keys):
    """Each item has the scale that the device wrote; one that is not finite is an error."""
    coded = Coded("output", dtype="int8", quantisation={"scale": 9.0, "zero_point": 3}, **keys)
    codes = np.random.default_rng(1).integers(-128, 128, (SIZE, LENGTH)).astype(np.int8)
    scales = np.geomspace(1e-3, 1e3, SIZE).astype(np.float32)[:, None]
    coded.raw[:] = codes
    coded.codes.scales[:] = scales
    expected = (codes.astype(np.float64) - 3) * scales
    assert np.allclose(coded.decode(), expected, rtol=1e-6)
    coded.codes.scales[2] = np.nan
    with pytest.raises(RuntimeError, match="scale of its output that is not finite"):
        coded.decode()


@pytest.mark.parametrize(
    ("gain", "effect"),
    [("linear", lambda y, g: y * g), ("log10_power", lambda y, g: y + 2 * np.log10(g))],
)
def test_what_a_scale_from_the_data_does_to_the_output(gain, effect):
    """A design made for one scale gives results that the host sets right."""
    given = Coded(quantisation={"scale": 0.1, "from_data": True})
    values = noise()
    values[1] = 0
    given.encode(values)
    coded = Coded("output", dtype="int8", quantisation={"scale": 0.5}, gain=gain, minimum=-20.0)
    codes = np.random.default_rng(2).integers(-128, 128, (SIZE, LENGTH)).astype(np.int8)
    coded.raw[:] = codes
    peak = np.abs(values.astype(np.float64)).max(axis=1, keepdims=True)
    gains = np.where(peak > 0, peak / 32767 / 0.1, 1.0)
    expected = np.maximum(effect(0.5 * codes, gains), -20)
    assert np.allclose(coded.decode(given), expected, rtol=1e-5, atol=1e-4)


def test_items_of_another_shape():
    """What the operation gives and what the manifest says are both in the message."""
    with pytest.raises(ValueError, match=r"have shape \(7,\), the manifest says \(12,\)"):
        Coded(quantisation={"scale": 0.1}).encode(np.zeros((SIZE, 7), np.float32))


def test_a_scalar_argument_takes_no_buffer():
    """XRT marks it by its bank, and would swallow the buffer or fail later."""
    with pytest.raises(ValueError, match="'x' is a scalar in this kernel"):
        Buffers(SimpleNamespace(), BufferFlag.HOST_ONLY, [("'x'", 64, 1 << 16 | 0xFFFF)])


def test_regions_lie_apart(tmp_path):
    """One allocation for each bank; what the host writes into one region no other one sees."""
    with npus.Rig(tmp_path).device() as device:
        session = device.handle
        buffers = Buffers(
            session, BufferFlag.HOST_ONLY, [("a", 70, 0), ("b", 1, 0), ("c", 5, 1), ("d", 64, 0)]
        )
        assert len(buffers.roots) == 2
        starts = sorted(r.bo.address() for i, r in enumerate(buffers.regions) if i != 2)
        assert [b - a for a, b in itertools.pairwise(starts)] == [128, 64]
        assert [region.bo.size() for region in buffers.regions] == [70, 1, 5, 64]
        for value, region in enumerate(buffers.regions, start=1):
            assert not region.view.any()
            region.view[:] = value
        assert [set(region.view.tolist()) for region in buffers.regions] == [{1}, {2}, {3}, {4}]
        buffers.close()
