"""``mel.reference``: the float64 definition itself, as the last resort."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay_mel import reference


def mel(audio: NDArray[Any], *, n_mels: int, center: bool) -> NDArray[np.float32]:
    """Whole kernel: float32, float64 or int16 audio to features (n_mels, frames)."""
    return reference.mel(audio, n_mels=n_mels, center=center).astype(np.float32)
