"""Floor and scale, in place: the last step from log10 power to features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from assay_mel.definition import DECADES

CHUNK = 1 << 16  # elements: what stays in a core's cache over the three steps


def normalise(log_mel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Floor at the maximum of all bands and frames minus 8, then ``(x + 4) / 4``.

    Args:
        log_mel: log10 power, shape (n_mels, frames); it is overwritten.

    Returns:
        The same array.
    """
    n_mels, frames = log_mel.shape
    width = max(1, CHUNK // n_mels)
    # A row, not a number: numpy's maximum is vectorised for arrays only.
    floor = np.full(min(width, frames), log_mel.max() - np.float32(DECADES))
    for start in range(0, frames, width):
        part = log_mel[:, start : start + width]
        np.maximum(part, floor[: part.shape[1]], out=part)
        part += np.float32(4.0)
        part *= np.float32(0.25)
    return log_mel
