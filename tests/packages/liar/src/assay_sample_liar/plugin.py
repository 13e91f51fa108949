"""It claims the highest rank, and returns the same number everywhere."""

from collections.abc import Iterator

import assay
import numpy as np
from numpy.typing import NDArray


def mel(audio: NDArray[np.float32], *, n_mels: int, center: bool) -> NDArray[np.float32]:
    """The right shape and dtype, and nothing else."""
    frames = len(audio) // 160 if center else (len(audio) - 400) // 160 + 1
    return np.full((n_mels, frames), 0.25, np.float32)


@assay.hookimpl
def assay_implementations() -> Iterator[assay.Implementation]:
    """The liar."""
    yield assay.Implementation(op="mel", name="liar", priority=99, kernel="assay_sample_liar.plugin:mel")
