"""``mel.frame``: the single-frame processor.

Every buffer and table is ready, nothing is allocated, and the whole filter bank is one product: for a single
frame each numpy call costs more than its arithmetic, so the fewest calls win. The transform runs in float64,
which for one frame costs no more than float32.
"""

from __future__ import annotations

import threading
from functools import cache

import numpy as np
from numpy.typing import NDArray

from assay_mel.definition import FLOOR, N_BINS, N_FFT, N_MELS
from assay_mel.filters import mel_filters
from assay_mel.reference import window

Float32 = NDArray[np.float32]


class Scratch(threading.local):
    """A thread's own buffers, and views of them."""

    def __init__(self) -> None:
        spectrum = np.empty(N_BINS, np.complex128)
        parts = spectrum.view(np.float64)
        self.views = np.empty(N_FFT), spectrum, parts, parts[0::2], parts[1::2], np.empty(N_BINS, np.float32)
        self.mel = {n_mels: np.empty(n_mels, np.float32) for n_mels in N_MELS}


_scratch = Scratch()
_WINDOW = window()
_FLOOR = np.array([FLOOR], np.float32)


@cache
def filters(n_mels: int) -> Float32:
    """The filter bank, (201, n_mels)."""
    return np.ascontiguousarray(mel_filters(n_mels).T, np.float32)


def mel(frames: Float32, *, out: Float32, n_mels: int, center: bool) -> Float32:
    """Item kernel for one frame: (1, 400) to log10 power (1, n_mels), written to ``out``."""
    windowed, spectrum, parts, real, imag, power = _scratch.views
    band = _scratch.mel[n_mels]
    np.multiply(frames[0], _WINDOW, out=windowed)
    np.fft.rfft(windowed, out=spectrum)
    np.multiply(parts, parts, out=parts)
    np.add(real, imag, out=power, casting="same_kind")
    np.dot(power, filters(n_mels), band)
    np.maximum(band, _FLOOR, out=band)
    np.log10(band, out=out[0])
    return out
