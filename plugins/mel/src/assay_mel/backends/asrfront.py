"""``mel.asrfront``: the asrfront package. It centres its frames and knows no other way."""

from __future__ import annotations

import numpy as np
from asrfront import whisper
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


def mel(audio: Float32, *, n_mels: int, center: bool) -> Float32:
    """Whole kernel: features (n_mels, frames)."""
    features: Float32 = whisper.log_mel(audio, n_mels=n_mels, pad_or_trim=False)
    return features
