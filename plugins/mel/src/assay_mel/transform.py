"""Log-mel power of many frames at a time, with numpy alone.

The transform runs in float64: numpy's is as fast there as in float32, and what it leaves in bins that are
silent beside a loud one (a floor eight decades down shows it) is then far below anybody's tolerance.
"""

from __future__ import annotations

import threading
from functools import cache

import numpy as np
from numpy.typing import NDArray

from assay_mel.definition import FLOOR, N_BINS, N_FFT
from assay_mel.filters import mel_filters
from assay_mel.reference import window

Float32 = NDArray[np.float32]

BLOCK = 125
"""Frames at a time: enough to make a numpy call cheap, few enough for the buffers to stay in cache."""

BAND = 16
"""Mel filters per matrix product. Neighbours share their bins and leave the others out; and products of
16 x 104 x 125 stay below the size from which OpenBLAS would share one among threads (64 x 64 x 64)."""


class Scratch(threading.local):
    """A thread's own buffers. Fresh ones for each block would cost more in page faults than the transform."""

    def __init__(self) -> None:
        self.windowed = np.empty((BLOCK, N_FFT))
        self.spectrum = np.empty((BLOCK, N_BINS), np.complex128)
        self.power = np.empty((BLOCK, N_BINS), np.float32)
        self.mel = np.empty(128 * BLOCK, np.float32)


_scratch = Scratch()
_WINDOW = window()
# A row, not a number: numpy's maximum is vectorised for arrays only.
_FLOOR = np.full(BLOCK, FLOOR, np.float32)
# numpy's float32 logarithm is vectorised, its log10 is not.
_LOG10_E = np.array([np.log10(np.e)], np.float32)


@cache
def bands(n_mels: int) -> tuple[tuple[slice, slice, Float32], ...]:
    """The filter bank in bands: which filters, which bins they need, and their weights."""
    weights = mel_filters(n_mels).astype(np.float32)
    cut = []
    for start in range(0, n_mels, BAND):
        filters = slice(start, start + BAND)
        used = np.flatnonzero(weights[filters].any(axis=0))
        bins = slice(int(used[0]), int(used[-1]) + 1)
        cut.append((filters, bins, np.ascontiguousarray(weights[filters, bins])))
    return tuple(cut)


def log_mel(frames: Float32, out: Float32) -> None:
    """``log10(max(power, 1e-10))`` of every frame.

    Args:
        frames: Shape (n, 400), not windowed, any strides.
        out: Filled; shape (n_mels, n), any strides.
    """
    for start in range(0, len(frames), BLOCK):
        _log_mel_block(frames[start : start + BLOCK], out[:, start : start + BLOCK])


def _log_mel_block(frames: Float32, out: Float32) -> None:
    n_mels, n = out.shape
    windowed, spectrum, power = _scratch.windowed[:n], _scratch.spectrum[:n], _scratch.power[:n]
    mel = _scratch.mel[: n_mels * n].reshape(n_mels, n)

    np.multiply(frames, _WINDOW, out=windowed)
    np.fft.rfft(windowed, out=spectrum)
    parts = spectrum.view(np.float64)
    np.multiply(parts, parts, out=parts)
    np.add(parts[:, 0::2], parts[:, 1::2], out=power, casting="same_kind")
    by_bin = power.T
    for filters, bins, weights in bands(n_mels):
        np.matmul(weights, by_bin[bins], out=mel[filters])
    np.maximum(mel, _FLOOR[:n], out=mel)
    np.log(mel, out=mel)
    np.multiply(mel, _LOG10_E, out=out)
