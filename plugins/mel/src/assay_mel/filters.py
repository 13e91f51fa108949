"""The Slaney mel filter bank."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from assay_mel.definition import N_BINS, SAMPLE_RATE

LINEAR_HZ = 200 / 3
"""Hz per mel in the linear part of the scale."""
BREAK_HZ = 1000.0
"""Where the scale turns from linear to logarithmic."""
LOG_STEP = np.log(6.4) / 27
"""Natural logarithm of frequency per mel in the logarithmic part: 27 mels from 1000 Hz to 6400 Hz."""


def hz_to_mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Slaney's mel scale (Auditory Toolbox, M. Slaney, Technical Report 1998-010).

    Linear below 1000 Hz, logarithmic above.
    """
    above = BREAK_HZ / LINEAR_HZ + np.log(np.maximum(hz, BREAK_HZ) / BREAK_HZ) / LOG_STEP
    return np.where(hz < BREAK_HZ, hz / LINEAR_HZ, above)


def mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of :func:`hz_to_mel`."""
    knee = BREAK_HZ / LINEAR_HZ
    return np.where(mel < knee, mel * LINEAR_HZ, BREAK_HZ * np.exp((mel - knee) * LOG_STEP))


def edges(n_mels: int) -> NDArray[np.float64]:
    """Where the bands begin, peak and end, in Hz: band i is edges i to i + 2. Shape (n_mels + 2,)."""
    top = hz_to_mel(np.array(SAMPLE_RATE / 2))
    return mel_to_hz(np.linspace(0.0, float(top), n_mels + 2))


@cache
def mel_filters(n_mels: int) -> NDArray[np.float64]:
    """Triangles between neighbouring edges, each scaled to unit area over Hz ("Slaney norm").

    Args:
        n_mels: Number of bands from 0 Hz to 8000 Hz.

    Returns:
        float64 weights, shape (n_mels, 201), read-only. As float32 they are Whisper's published filters.
    """
    hz = np.linspace(0.0, SAMPLE_RATE / 2, N_BINS)
    edge = edges(n_mels)
    low, peak, high = edge[:-2, None], edge[1:-1, None], edge[2:, None]
    triangles = np.maximum(0.0, np.minimum((hz - low) / (peak - low), (high - hz) / (high - peak)))
    weights: NDArray[np.float64] = triangles * (2.0 / (high - low))
    weights.flags.writeable = False
    return weights
