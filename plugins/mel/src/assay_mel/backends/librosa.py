"""``mel.librosa``: librosa's transform and filters, with Whisper's framing, floor and scale."""

from __future__ import annotations

from functools import cache

import numpy as np
from librosa import stft
from librosa.filters import mel as slaney_filters
from numpy.typing import NDArray

from assay_mel.definition import FLOOR, HOP, N_FFT, SAMPLE_RATE, count_frames
from assay_mel.framing import span
from assay_mel.scaling import normalise

Float32 = NDArray[np.float32]

BLOCK = 1024  # frames at a time: the spectrum of an hour would take ten times the room of its features


@cache
def filters(n_mels: int) -> Float32:
    """librosa's filter bank, (n_mels, 201)."""
    weights: Float32 = slaney_filters(sr=SAMPLE_RATE, n_fft=N_FFT, n_mels=n_mels)
    return weights


def mel(audio: Float32, *, n_mels: int, center: bool, out: Float32) -> Float32:
    """Whole kernel: fills ``out`` (n_mels, frames)."""
    frames = count_frames(audio.size, center)
    for start in range(0, frames, BLOCK):
        stop = min(start + BLOCK, frames)
        samples = span(audio, start, stop, center)
        spectrum = stft(samples, n_fft=N_FFT, hop_length=HOP, window="hann", center=False)
        power = spectrum.real**2 + spectrum.imag**2
        np.log10(np.maximum(filters(n_mels) @ power, FLOOR), out=out[:, start:stop])
    return normalise(out)
