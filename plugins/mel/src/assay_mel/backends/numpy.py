"""``mel.numpy``: a whole recording with numpy alone, straight from its samples."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from assay_mel.definition import count_frames
from assay_mel.framing import span, windows
from assay_mel.scaling import normalise
from assay_mel.transform import BLOCK, log_mel

Float32 = NDArray[np.float32]


def mel(audio: Float32, *, n_mels: int, center: bool, out: Float32) -> Float32:
    """Whole kernel: fills ``out`` (n_mels, frames) block by block; holds one block besides it."""
    frames = count_frames(audio.size, center)
    for start in range(0, frames, BLOCK):
        stop = min(start + BLOCK, frames)
        log_mel(windows(span(audio, start, stop, center)), out[:, start:stop])
    return normalise(out)
