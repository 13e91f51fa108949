"""Log-mel power of many frames at a time, as products of small matrices.

numpy's FFT takes one frame after another; a matrix product takes all of them, a fifth faster in the end.
The transform of 400 = 25 x 16 points is split once (Cooley and Tukey, 1965). With n = 16 m + r and
k = 25 a + b: first a transform over the 25 values of m for each r, then one over the 16 values of r for
each b. The window goes into the matrices of the first stage, the twiddle factors into those of the second,
and both sum few enough terms to be as exact in float32 as an FFT is.

Frames are columns throughout. Only b = 0 to 12 is computed: the rest mirrors it, the input being real.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from assay_mel.definition import FLOOR, N_FFT
from assay_mel.filters import mel_filters
from assay_mel.reference import window

Float32 = NDArray[np.float32]

BLOCK = 125
"""Frames at a time: enough to make a numpy call cheap, few enough for the buffers to stay in cache."""

BAND = 16
"""Mel filters per product. Neighbours share their frequencies and leave the others out; and every product
here stays below the size from which OpenBLAS would share it among threads (64 x 64 x 64)."""

M, R = 25, 16
HALF = M // 2 + 1
OUTER = np.array([a for pair in zip(range(R // 2), reversed(range(R // 2, R)), strict=True) for a in pair])
"""The order of the 16 values of a: 0, 15, 1, 14 ... Since 25 a + b and the mirror image of 25 (15 - a) + b
both lie between 25 a and 25 (a + 1), frequencies then ascend from pair to pair, and neighbouring filters need
neighbouring rows."""


def _parts(angle: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The real and the imaginary part of exp(-i angle)."""
    return np.cos(angle), -np.sin(angle)


@cache
def _stages() -> tuple[Float32, Float32]:
    """The matrices of both stages, (16, 26, 25) by r and (13, 32, 32) by b.

    A complex row is a real row and an imaginary one: (b, part) out of the first stage,
    (part, r) into the second and (part, a) out of it.
    """
    m, r, b = np.arange(M), np.arange(R), np.arange(HALF)
    inner = np.stack(_parts(2 * np.pi * np.outer(b, m) / M), axis=1).reshape(2 * HALF, M)
    first = np.stack([inner * window()[R * m + residue] for residue in r])

    real, imag = _parts(2 * np.pi * (M * OUTER[:, None] + b[:, None, None]) * r / N_FFT)
    second = np.concatenate((np.dstack((real, -imag)), np.dstack((imag, real))), axis=1)
    return first.astype(np.float32), second.astype(np.float32)


@cache
def _bands(n_mels: int) -> tuple[tuple[slice, slice, Float32], ...]:
    """The filter bank in bands: which filters, which rows of power they need, and their weights."""
    frequency = (M * OUTER[:, None] + np.arange(HALF)).ravel()
    bins, rows = np.unique(np.minimum(frequency, N_FFT - frequency), return_index=True)
    weights = np.zeros((n_mels, frequency.size))
    weights[:, rows] = mel_filters(n_mels)[:, bins]
    bands = []
    for start in range(0, n_mels, BAND):
        part = weights[start : start + BAND]
        used = np.flatnonzero(part.any(axis=0))
        needed = slice(int(used[0]), int(used[-1]) + 1)
        bands.append((slice(start, start + BAND), needed, part[:, needed].astype(np.float32)))
    return tuple(bands)


@dataclass(frozen=True, slots=True, eq=False)
class _Views:
    """The two buffers of a thread as each step sees them, for one number of frames.

    The steps go to and fro between them:
    frames (a), first stage (b), spectrum (a), power (b), bands (a).
    """

    frames: Float32
    frames_by_r: Float32
    first: Float32
    first_by_b: Float32
    spectrum: Float32
    spectrum_by_b: Float32
    power: Float32
    power_rows: Float32

    @classmethod
    def of(cls, a: Float32, b: Float32, n: int) -> _Views:
        frames = a[: N_FFT * n].reshape(N_FFT, n)
        first = b[: 2 * HALF * R * n].reshape(2 * HALF, R, n)
        spectrum = a[: 2 * R * HALF * n].reshape(2, R, HALF, n)
        power = b[: R * HALF * n]
        return cls(
            frames=frames,
            frames_by_r=frames.reshape(M, R, n).transpose(1, 0, 2),
            first=first.transpose(1, 0, 2),
            first_by_b=first.reshape(HALF, 2 * R, n),
            spectrum=spectrum,
            spectrum_by_b=spectrum.reshape(2 * R, HALF, n).transpose(1, 0, 2),
            power=power.reshape(R, HALF, n),
            power_rows=power.reshape(R * HALF, n),
        )


class _Scratch(threading.local):
    """Each thread's own buffers, with the views for the number of frames that came last."""

    def __init__(self) -> None:
        size = 2 * R * HALF * BLOCK
        self.a, self.b = np.empty(size, np.float32), np.empty(size, np.float32)
        self.n = 0
        self.views: _Views

    def fit(self, n: int) -> _Views:
        if n != self.n:
            self.views, self.n = _Views.of(self.a, self.b, n), n
        return self.views


_scratch = _Scratch()
# A row, not a number: numpy's maximum is vectorised for arrays only.
_FLOOR = np.full(BLOCK, FLOOR, np.float32)
# numpy's float32 logarithm is vectorised, its log10 is not.
_LOG10_E = np.array([np.log10(np.e)], np.float32)


def log_mel(frames: Float32, out: Float32) -> None:
    """``log10(max(power, 1e-10))`` of every frame.

    Args:
        frames: Shape (n, 400), not windowed, any strides.
        out: Filled; shape (n_mels, n), any strides.
    """
    for start in range(0, len(frames), BLOCK):
        _log_mel_block(frames[start : start + BLOCK], out[:, start : start + BLOCK])


def _log_mel_block(frames: Float32, out: Float32) -> None:
    first, second = _stages()
    n_mels, n = out.shape
    v = _scratch.fit(n)
    np.copyto(v.frames, frames.T)
    np.matmul(first, v.frames_by_r, out=v.first)
    np.matmul(second, v.first_by_b, out=v.spectrum_by_b)
    np.multiply(v.spectrum, v.spectrum, out=v.spectrum)
    np.add(v.spectrum[0], v.spectrum[1], out=v.power)
    mel = _scratch.a[: n_mels * n].reshape(n_mels, n)
    for filters, rows, weights in _bands(n_mels):
        np.matmul(weights, v.power_rows[rows], out=mel[filters])
    np.maximum(mel, _FLOOR[:n], out=mel)
    np.log(mel, out=mel)
    np.multiply(mel, _LOG10_E, out=out)
