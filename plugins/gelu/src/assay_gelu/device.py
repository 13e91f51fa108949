"""GELU rows in the fixed-point arithmetic of an NPU: int8 codes by a table, or int16 by interpolation in one.

Host functions over device memory, for kernels that run on ``assay.testing.simxrt``: each stands for a
compiled design and computes bit for bit what integer hardware would. They serve ``approximate="none"``.
How their bytes are to be read belongs into a kernel manifest: real value = code x scale, in and out, with
one float32 scale per row or one for all. The scale of the input is taken from the data, so that the largest
magnitude becomes 127 or 32767; that of the output is computed here in the same way and written beside the
codes, which are int8 for both.

``gelu_int8`` is the cheaper one. Rounding its input to 255 steps costs up to 0.5 % of the largest magnitude
where the curve is steep: within 1 % of the output's range for rows that reach as far up as down, not for rows
that lie in the negative tail. ``gelu_int16`` is within 1 % for all rows.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]

REACH = 8  # beyond it the distribution function is 0 or 1 to the last of its bits
STEP_BITS = 8  # knots per unit, as a power of two
FRACTION_BITS = 16  # of the way from one knot to the next
CDF_BITS = 30  # fraction bits of the distribution function
LARGEST = 127  # the largest code of the output
MOST = 62  # the largest shift that int64 bears


@cache
def _knots() -> Integers:
    """The Gaussian's distribution function from 0 to 8 in steps of 1/256, in units of 2^-30."""
    positions = range((REACH << STEP_BITS) + 1)
    values = [0.5 * math.erfc(-x / (1 << STEP_BITS) / math.sqrt(2)) for x in positions]
    return np.array([round(value * (1 << CDF_BITS)) for value in values], np.int64)


def gelu_int16(codes: Bytes, scales: Bytes, result: Bytes, result_scales: Bytes) -> None:
    """Compute rows of int16, as device memory holds them.

    Args:
        codes: int16 (rows, length).
        scales: float32 (rows,); one scale makes one row of everything.
        result: int8 (rows, length), written.
        result_scales: float32 (rows,), written.
    """
    x = codes.view(np.int16).reshape(scales.size // 4, -1).astype(np.int64)
    _scaled(_curve(x, scales.view(np.float32)), scales.view(np.float32), result, result_scales)


def gelu_int8(codes: Bytes, scales: Bytes, result: Bytes, result_scales: Bytes) -> None:
    """Compute rows of int8 by a table of the 256 codes, made for each row's scale.

    Args:
        codes: int8 (rows, length).
        scales: float32 (rows,); one scale makes one row of everything.
        result: int8 (rows, length), written.
        result_scales: float32 (rows,), written.
    """
    x = codes.view(np.int8).reshape(scales.size // 4, -1)
    table = _curve(np.arange(-128, 128)[None, :], scales.view(np.float32))
    # The output's scale is that of the codes that occur, not of all in the table.
    curve = np.take_along_axis(table, x.astype(np.int64) + 128, axis=1)
    _scaled(curve, scales.view(np.float32), result, result_scales)


def _curve(x: Integers, scales: npt.NDArray[np.float32]) -> Integers:
    """GELU of codes, in units of scale x 2^-30."""
    # |x| on the table's axis: code times mantissa, shifted by the exponent. The product is below 2^39.
    mantissa, exponent = np.frexp(scales.astype(np.float64))
    mantissa = (mantissa * (1 << 24)).astype(np.int64)[:, None]
    left = exponent.astype(np.int64)[:, None] - 24 + STEP_BITS + FRACTION_BITS
    product = np.abs(x) * mantissa
    end = REACH << (STEP_BITS + FRACTION_BITS)
    # Every code but 0 makes a product from 2^23 on, which five shifts to the left take past the end.
    position = np.minimum((product << np.clip(left, 0, 5)) >> np.clip(-left, 0, MOST), end)
    knots = _knots()
    knot = np.minimum(position >> FRACTION_BITS, len(knots) - 2)
    fraction = position - (knot << FRACTION_BITS)
    below = knots[knot]
    rise = (knots[knot + 1] - below) * fraction
    distribution = below + ((rise + (1 << (FRACTION_BITS - 1))) >> FRACTION_BITS)
    curve: Integers = x * np.where(x < 0, (1 << CDF_BITS) - distribution, distribution)
    return curve


def _scaled(curve: Integers, scales: npt.NDArray[np.float32], result: Bytes, result_scales: Bytes) -> None:
    """Round each row to int8 so that its largest magnitude becomes 127, and write down its scale."""
    largest = np.abs(curve).max(axis=1, initial=0)
    # Times 127 / largest, by its reciprocal in 16 bits: hardware has a multiplier, and no divider.
    bits = np.frexp(largest.astype(np.float64))[1] + 8
    reciprocal = (LARGEST << bits.astype(np.int64)) // np.maximum(largest, 1)
    half = np.int64(1) << (bits - 1).astype(np.int64)
    codes = (curve * reciprocal[:, None] + half[:, None]) >> bits.astype(np.int64)[:, None]
    result.view(np.int8).reshape(curve.shape)[:] = codes
    unit = scales.astype(np.float64) * 2.0**-CDF_BITS
    result_scales.view(np.float32)[:] = np.where(largest > 0, largest * unit / LARGEST, scales)


def quantise(x: npt.NDArray[Any], dtype: type) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32]]:
    """What a host gives the device: codes of an integer dtype, and a float32 scale for each row.

    Args:
        x: Real values, shape (rows, length). Those below -8 count as -8, whose result is 0 as well: they
            would only make the scale coarse.
        dtype: ``numpy.int8`` or ``numpy.int16``.
    """
    x = np.maximum(x, -REACH)
    largest = np.abs(x).max(axis=1)
    scales = (np.where(largest > 0, largest, 1.0) / np.iinfo(dtype).max).astype(np.float32)
    return np.rint(x / scales[:, None]).astype(dtype), scales
