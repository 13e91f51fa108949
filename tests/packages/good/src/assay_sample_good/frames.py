"""Log-mel energies of frames; imported only when its turn comes."""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

WINDOW = np.hanning(401)[:-1]


@cache
def bank(n_mels: int) -> NDArray[np.float64]:
    """Slaney's mel filters, (n_mels, 201): triangles of unit area; linear below 1 kHz, logarithmic above."""
    knee, step = 15.0, np.log(6.4) / 27
    mels = np.linspace(0, knee + np.log(8.0) / step, n_mels + 2)
    hertz = np.where(mels < knee, mels * 200 / 3, 1000 * np.exp(step * (mels - knee)))
    low, peak, high = hertz[:-2, None], hertz[1:-1, None], hertz[2:, None]
    bins = np.linspace(0, 8000, 201)
    rising, falling = (bins - low) / (peak - low), (high - bins) / (high - peak)
    weights: NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling)) * 2 / (high - low)
    return weights


def mel(
    frames: NDArray[np.float32], *, out: NDArray[np.float32], n_mels: int, **params: Any
) -> NDArray[np.float32]:
    """float32 frames (n, 400), not windowed, to (n, n_mels)."""
    power = np.abs(np.fft.rfft(frames * WINDOW, axis=1)) ** 2
    out[:] = np.log10(np.maximum(power @ bank(n_mels).T, 1e-10))
    return out
