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
    floor = log_mel.max() - np.float32(DECADES)
    width = max(1, CHUNK // n_mels)
    for start in range(0, frames, width):
        part = log_mel[:, start : start + width]
        np.maximum(part, floor, out=part)
        part += np.float32(4.0)
        part *= np.float32(0.25)
    return log_mel
