"""The device's GELU: bit for bit the integer arithmetic it claims, and within 1 % of the output's range."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

import assay
import numpy as np
import numpy.typing as npt
import pytest
from assay.testing import simxrt
from assay_gelu import GELU, device
from assay_gelu.probes import probes
from assay_gelu.reference import reference
from assay_gelu.rows import split

Array = npt.NDArray[Any]
Kernel = Callable[..., None]
KERNELS = [(device.gelu_int8, np.int8), (device.gelu_int16, np.int16)]


def run(kernel: Kernel, codes: Array, scales: Array) -> tuple[Array, Array]:
    """Run a device function over bytes; returns its codes and scales."""
    result: Array = np.empty(codes.shape, np.int8)
    result_scales: Array = np.empty(scales.size, np.float32)
    kernel(*(a.view(np.uint8).reshape(-1) for a in (codes, scales, result, result_scales)))
    return result, result_scales


def real(kernel: Kernel, dtype: type, x: Array) -> Array:
    """GELU of real rows through the device."""
    codes, scales = run(kernel, *device.quantise(x, dtype))
    return (codes * scales[:, None]).astype(np.float32)


def scalar(row: list[int], scale: float) -> tuple[list[int], float]:
    """One row in Python's integers, from the description of the arithmetic."""

    def knot(i: int) -> int:
        return round(0.5 * math.erfc(-i / 256 / math.sqrt(2)) * 2**30)

    def curve(code: int) -> int:
        fraction, exponent = math.frexp(scale)
        product = abs(code) * int(fraction * 2**24)
        end = 8 * 2**24
        position = min(end, product << exponent if exponent > 0 else product >> -exponent)
        i = min(position >> 16, 2047)
        distribution = knot(i) + (((knot(i + 1) - knot(i)) * (position - (i << 16)) + 2**15) >> 16)
        return code * (2**30 - distribution if code < 0 else distribution)

    values = [curve(code) for code in row]
    largest = max(map(abs, values))
    bits = largest.bit_length() + 8
    reciprocal = 127 * 2**bits // max(largest, 1)
    codes = [(v * reciprocal + 2 ** (bits - 1)) >> bits for v in values]
    (unit,) = struct.unpack("<f", struct.pack("<f", largest * (scale * 2.0**-30) / 127 if largest else scale))
    return codes, unit


SCALES = [1e-38, 1e-42, 3e-5, 2.4e-4, 0.01, 1.0, 7.9, 300.0, 1e30]


@pytest.mark.parametrize(("kernel", "dtype"), KERNELS)
def test_bit_exact(kernel: Kernel, dtype: type) -> None:
    """Codes and scales are those of a model in Python's integers, for tiny and huge scales too."""
    info = np.iinfo(dtype)
    rng = np.random.default_rng(1)
    codes: Array = rng.integers(info.min, info.max, (len(SCALES) + 4, 48), endpoint=True).astype(dtype)
    codes[:, :4] = [info.min, info.max, 0, 1]
    codes[-4], codes[-3] = 1, -1  # one step is past the end of the table
    codes[-2], codes[-1] = 0, rng.integers(-14, -7, 48)
    scales = np.array([*SCALES, 8.0, 8.0, 0.1, 0.2], np.float32)
    result, units = run(kernel, codes, scales)
    for row, scale, got, unit in zip(codes, scales, result, units, strict=True):
        assert scalar(row.tolist(), float(scale)) == (got.tolist(), float(unit))


class Domain:
    """The device's: float32 and the exact form."""

    dtypes = ("float32",)

    def values(self, name: str, otherwise: Any) -> tuple[str, ...]:
        """The only value."""
        return ("none",)


DOMAIN: Any = Domain()


@pytest.mark.parametrize("length", [512, 2048])
def test_int16_serves_every_probe(length: int) -> None:
    """Through rows of 512 and 2048 the int16 kernel is within the approximate tolerance on every probe."""
    for probe in probes(np.random.default_rng(length), DOMAIN):
        (x,) = probe.inputs
        assert x is not None
        rows = split((x,), probe.params, item_shape=(length,), out=None)
        if rows.count:
            block = np.empty((rows.count, length), np.float32)
            rows.load(0, rows.count, [block])
            rows.store(0, rows.count, real(device.gelu_int16, np.int16, block))
        expected = reference(x)
        limit = GELU.tolerance("", (x,), probe.params, expected, assay.Accuracy.APPROXIMATE).max_abs
        assert np.all(np.abs(rows.result() - expected) <= limit), probe.name


@pytest.mark.parametrize("deviation", [1e-4, 0.1, 1.0, 3.0, 30.0])
def test_int8_on_rows_around_zero(deviation: float) -> None:
    """The int8 table is within 1 % of the range for rows that reach as far up as down."""
    x = np.random.default_rng(2).normal(0, deviation, (6, 512)).astype(np.float32)
    x[:, 0] = np.abs(x).max(axis=1)
    error = np.abs(real(device.gelu_int8, np.int8, x) - reference(x))
    assert np.all(error.max(axis=1) <= 0.01 * np.ptp(reference(x), axis=1))


def test_int8_in_the_negative_tail() -> None:
    """In the negative tail the int8 table is more than 1 % off, as its description says."""
    x = np.random.default_rng(3).uniform(-5, -3, (1, 500)).astype(np.float32)
    error = np.abs(real(device.gelu_int8, np.int8, x) - reference(x)).max()
    assert error > 0.01 * np.ptp(reference(x))


@pytest.mark.parametrize(("kernel", "dtype"), KERNELS)
def test_one_scale_for_all(kernel: Kernel, dtype: type) -> None:
    """With a single scale everything is one row."""
    codes: Array = np.random.default_rng(4).integers(-127, 127, (3, 512)).astype(dtype)
    scale = np.array([0.05], np.float32)
    result, unit = run(kernel, codes, scale)
    flat, same = run(kernel, codes.reshape(1, -1), scale)
    assert np.array_equal(result.ravel(), flat.ravel())
    assert np.array_equal(unit, same)


@pytest.mark.parametrize(("kernel", "dtype"), KERNELS)
def test_far_below_zero_costs_nothing(kernel: Kernel, dtype: type) -> None:
    """A value far below zero gives 0 and takes no precision from the others."""
    x = np.random.default_rng(7).uniform(-8, 8, (1, 512))
    x[0, 9] = -1e30
    error = np.abs(real(kernel, dtype, x) - reference(x))
    assert error.max() <= 0.01 * np.ptp(reference(x))


@pytest.mark.parametrize(("kernel", "dtype"), KERNELS)
def test_zeros(kernel: Kernel, dtype: type) -> None:
    """Rows of zeros give zeros, and a scale that is finite and positive."""
    result, units = run(kernel, *device.quantise(np.zeros((2, 512)), dtype))
    assert not result.any()
    assert np.all(np.isfinite(units) & (units > 0))


def test_the_largest_code_is_reached() -> None:
    """Each row's largest magnitude becomes 127."""
    x = np.random.default_rng(5).normal(size=(50, 512)) * 10.0 ** np.linspace(-6, 6, 50)[:, None]
    codes, _ = run(device.gelu_int16, *device.quantise(x, np.int16))
    assert np.array_equal(np.abs(codes.astype(int)).max(axis=1), np.full(50, 127))


@pytest.mark.parametrize(("kernel", "dtype"), KERNELS)
def test_found_by_name(kernel: Kernel, dtype: type) -> None:
    """An xclbin of the stand-in can name the functions."""
    assert simxrt.Simulator().program(f"assay_gelu.device:{kernel.__name__}") is kernel
