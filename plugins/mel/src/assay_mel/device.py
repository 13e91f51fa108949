"""Log-mel frames in the fixed-point arithmetic of an NPU: int16 samples in, int8 codes out.

A host function over device memory, for kernels that run on ``assay.testing.simxrt``: it stands for a compiled
design and computes bit for bit what integer hardware would, with 16-bit factors and 64-bit accumulators.
How its bytes are to be read belongs into a kernel manifest:

- samples: real value = code x scale, one float32 scale per frame or one for all, taken from the data so
  that the largest sample becomes 32767;
- result: real value = ``SCALE`` x (code - ``ZERO_POINT``), ``log10(max(power, 1e-10))`` from -10 to 3.01.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from assay_mel.definition import N_BINS, N_FFT
from assay_mel.filters import mel_filters

Bytes = npt.NDArray[np.uint8]

SCALE = 10 / 196
"""Powers of ten from one code to the next."""
ZERO_POINT = 68
"""The code of 0; -128 is then -10 exactly, which is what silence gives."""

UNIT = 32767  # what a window of 1 and a filter's largest weight become
SPECTRUM_SHIFT = 12  # leaves 26 bits of a transform's 38, so that a square has 52
POWER_SHIFT = 5  # a band's sum stays below 2^62, since all bins together hold less than 2^76 (Parseval)
LOG_BITS = 10  # fraction bits of a binary logarithm
TABLE_BITS = 8  # leading bits of a mantissa that are looked up
CODE_SHIFT = 24
BLOCK = 60  # frames at a time: what stays in a core's cache
STRIP = 12  # frames in one product: for more OpenBLAS wakes threads, which costs more than it gives


class _Tables(NamedTuple):
    """Constants of a design. Integers; float64 where NumPy's products of them are faster, and exact."""

    cosine: npt.NDArray[np.float64]  # (201, 201): folded sample, bin
    sine: npt.NDArray[np.float64]  # (201, 201)
    weights: npt.NDArray[np.float64]  # (201, n_mels)
    band: npt.NDArray[np.int64]  # (n_mels,): what turns a band's sum into a power, as a logarithm
    log2: npt.NDArray[np.int64]  # (256,): of 1 to 2
    step: int  # codes per unit of the logarithm, times 2^CODE_SHIFT


@cache
def _tables(n_mels: int) -> _Tables:
    n, k = np.arange(N_BINS)[:, None], np.arange(N_BINS)[None, :]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * n / N_FFT)
    angle = 2 * np.pi * (n * k % N_FFT) / N_FFT
    filters = mel_filters(n_mels)
    largest = filters.max(axis=1)
    one = 1 << LOG_BITS
    constant = POWER_SHIFT + 2 * SPECTRUM_SHIFT - 2 * np.log2(UNIT)
    middle = (np.arange(1 << TABLE_BITS) + 0.5) / (1 << TABLE_BITS)
    return _Tables(
        cosine=np.rint(UNIT * window * np.cos(angle)),
        sine=np.rint(UNIT * window * np.sin(angle)),
        weights=np.rint(UNIT * filters / largest[:, None]).T.copy(),
        band=np.rint(one * (np.log2(largest / UNIT) + constant)).astype(np.int64),
        log2=np.rint(one * np.log2(1 + middle)).astype(np.int64),
        step=round((1 << CODE_SHIFT) * np.log10(2) / one / SCALE),
    )


def log_mel(frames: Bytes, scales: Bytes, codes: Bytes) -> None:
    """Compute a block of frames, as device memory holds it.

    Args:
        frames: int16 (n, 400): samples, not windowed.
        scales: float32 (n,) or (1,): real value of one step of the samples.
        codes: int8 (n, n_mels), written; n_mels, 80 or 128, follows from its size.
    """
    samples = frames.view(np.int16).reshape(-1, N_FFT)
    result = codes.view(np.int8).reshape(len(samples), -1)
    tables = _tables(result.shape[1])
    level = np.broadcast_to(2 * _log2_of_float(scales.view(np.uint32), tables), len(samples))
    for start in range(0, len(samples), BLOCK):
        part = slice(start, start + BLOCK)
        sums = _band_sums(_power(samples[part], tables), tables)
        logarithm = _log2(sums, tables) + tables.band + level[part, None]
        code = _shift(logarithm * tables.step, CODE_SHIFT) + ZERO_POINT
        # Without any power a band is at the floor, whatever the scale.
        result[part] = np.where(sums > 0, np.clip(code, -128, 127), -128)


def _power(samples: npt.NDArray[np.int16], tables: _Tables) -> npt.NDArray[np.int64]:
    """Power of 201 frequencies, shape (n, 201): windowed transform in 16-bit factors, rounded, squared."""
    # The window and the cosine are even around sample 200 and the sine is odd, so that samples meet in
    # pairs; sample 0 has the weight 0. All sums stay below 2^39: float64 holds them exactly.
    early = samples[:, 1 : N_BINS - 1].astype(np.float64)
    late = samples[:, : N_BINS - 1 : -1].astype(np.float64)
    middle = samples[:, N_BINS - 1, None].astype(np.float64)
    real = _product(early + late, tables.cosine[1:-1]) + middle * tables.cosine[-1]
    imaginary = _product(early - late, tables.sine[1:-1])
    a, b = _shift(real.astype(np.int64), SPECTRUM_SHIFT), _shift(imaginary.astype(np.int64), SPECTRUM_SHIFT)
    return _shift(a * a + b * b, POWER_SHIFT)


def _band_sums(power: npt.NDArray[np.int64], tables: _Tables) -> npt.NDArray[np.int64]:
    """Weighted sums of power in each band, shape (n, n_mels), below 2^63."""
    # In two halves, each of which float64 holds exactly.
    high, low = power >> 22, power & (1 << 22) - 1
    upper = _product(high.astype(np.float64), tables.weights).astype(np.int64)
    lower = _product(low.astype(np.float64), tables.weights).astype(np.int64)
    sums: npt.NDArray[np.int64] = (upper << 22) + lower
    return sums


def _product(rows: npt.NDArray[np.float64], matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The matrix product, in strips of rows."""
    product = np.empty((len(rows), matrix.shape[1]))
    for start in range(0, len(rows), STRIP):
        part = slice(start, start + STRIP)
        np.matmul(rows[part], matrix, out=product[part])
    return product


def _log2(x: npt.NDArray[np.int64], tables: _Tables) -> npt.NDArray[np.int64]:
    """Binary logarithm of integers from 1, in units of 2^-LOG_BITS; that of 0 means nothing."""
    high = x >> 31
    exponent = np.frexp(np.where(high > 0, high, x).astype(np.float64))[1] - 1 + 31 * (high > 0)
    mantissa = (x << (62 - exponent)) >> (62 - TABLE_BITS) & (1 << TABLE_BITS) - 1
    logarithm: npt.NDArray[np.int64] = (exponent.astype(np.int64) << LOG_BITS) + tables.log2[mantissa]
    return logarithm


def _log2_of_float(bits: npt.NDArray[np.uint32], tables: _Tables) -> npt.NDArray[np.int64]:
    """Binary logarithm of positive float32 numbers, from their bits."""
    exponent = (bits >> 23).astype(np.int64) - 127
    mantissa = bits >> (23 - TABLE_BITS) & (1 << TABLE_BITS) - 1
    logarithm: npt.NDArray[np.int64] = (exponent << LOG_BITS) + tables.log2[mantissa]
    return logarithm


def _shift(x: npt.NDArray[np.int64], bits: int) -> npt.NDArray[np.int64]:
    """Divide by 2^bits, rounded to nearest, halves up."""
    shifted: npt.NDArray[np.int64] = (x + (1 << (bits - 1))) >> bits
    return shifted


def quantise(frames: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.float32]]:
    """What a host gives the device: samples as int16 (n, 400) and a scale for each frame, float32 (n,).

    Args:
        frames: Real samples, shape (n, 400).
    """
    largest = np.abs(frames).max(axis=1)
    scales = (np.where(largest > 0, largest, 1.0) / UNIT).astype(np.float32)
    return np.rint(frames / scales[:, None]).astype(np.int16), scales


def dequantise(codes: npt.NDArray[np.int8]) -> npt.NDArray[np.float32]:
    """What the device's codes mean: ``log10(max(power, 1e-10))``, float32."""
    real: npt.NDArray[np.float32] = (codes.astype(np.float32) - ZERO_POINT) * np.float32(SCALE)
    return real
