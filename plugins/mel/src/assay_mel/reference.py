"""The float64 reference: the definition of the features, with nothing done for speed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from assay_mel.definition import DECADES, FLOOR, HOP, N_FFT, PAD, PCM16, count_frames
from assay_mel.filters import mel_filters

BLOCK = 10
"""Frames at a time. It bounds the memory and changes no result; products of 10 x 201 x 128 stay below the
size from which OpenBLAS shares one among threads, which on a busy machine takes a hundred times longer."""


def window() -> NDArray[np.float64]:
    """The periodic Hann window of 400 points: its 401st point would be the first again."""
    return 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(N_FFT) / N_FFT)


def log_mel_frames(frames: NDArray[Any], *, n_mels: int, center: bool = True) -> NDArray[np.float64]:
    """What a block of frames contributes to the features, before floor and scale.

    Args:
        frames: Samples under each frame, not windowed, shape (n, 400).
        n_mels: 80 or 128.
        center: How the frames were cut; it makes no difference here.

    Returns:
        ``log10(max(power, 1e-10))``, shape (n, n_mels).
    """
    spectrum = np.fft.rfft(frames.astype(np.float64) * window())
    power = spectrum.real**2 + spectrum.imag**2
    return np.log10(np.maximum(power @ mel_filters(n_mels).T, FLOOR))


def normalise(log_mel: NDArray[np.float64], axis: int | None = None) -> NDArray[np.float64]:
    """Floor eight decades below the maximum (over ``axis``, or over all) and scale: ``(x + 4) / 4``."""
    top = log_mel.max(axis=axis, keepdims=True)
    floored: NDArray[np.float64] = np.maximum(log_mel, top - DECADES)
    floored += 4.0
    floored /= 4.0
    return floored


def settle(log_mel: NDArray[np.float64]) -> NDArray[np.float64]:
    """The least that any recording can make of each frame: floored at the frame's own maximum, scaled."""
    return normalise(log_mel, axis=-1)


def mel(audio: NDArray[Any], *, n_mels: int, center: bool) -> NDArray[np.float64]:
    """The features of a recording in float64.

    Args:
        audio: Shape (samples,), float in [-1, 1] or int16.
        n_mels: 80 or 128.
        center: Whether the ends are reflected.

    Returns:
        Shape (n_mels, frames).
    """
    count = count_frames(audio.size, center)
    padded = np.pad(audio, PAD, mode="reflect") if center else audio
    frames = sliding_window_view(padded, N_FFT)[::HOP][:count]
    scale = 1.0 / PCM16 if audio.dtype == np.int16 else 1.0
    log_mel = np.empty((n_mels, count))
    for start in range(0, count, BLOCK):
        block = frames[start : start + BLOCK].astype(np.float64) * scale
        log_mel[:, start : start + BLOCK] = log_mel_frames(block, n_mels=n_mels).T
    return normalise(log_mel)
