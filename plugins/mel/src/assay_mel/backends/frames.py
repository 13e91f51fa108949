"""``mel.frames``: the batch processor. Any number of frames at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from assay_mel.transform import log_mel

Float32 = NDArray[np.float32]


def mel(frames: Float32, *, n_mels: int, center: bool) -> Float32:
    """Item kernel: frames (n, 400) to log10 power (n, n_mels).

    The result lies in memory as the answer does, band by band, so that storing it is a plain copy.
    """
    result = np.empty((n_mels, len(frames)), np.float32)
    log_mel(frames, result)
    return result.T
