"""Cuts a signal into overlapping frames without copying it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from assay_mel.definition import HOP, N_FFT, PAD


def span(audio: NDArray[Any], start: int, stop: int, center: bool) -> NDArray[Any]:
    """The samples under frames start to stop, reflected beyond the signal's ends.

    A view wherever the frames lie inside the signal, a small copy at its ends.
    """
    first = HOP * start - (PAD if center else 0)
    last = first + HOP * (stop - 1 - start) + N_FFT
    before, after = max(0, -first), max(0, last - audio.size)
    inside = audio[first + before : last - after]
    if not before and not after:
        return inside
    return np.concatenate((audio[before:0:-1], inside, audio[-2 : -2 - after : -1]))


def windows(samples: NDArray[Any]) -> NDArray[Any]:
    """Every frame that lies inside the samples: a read-only view, shape (frames, 400)."""
    count = (samples.size - N_FFT) // HOP + 1
    (step,) = samples.strides
    return as_strided(samples, (count, N_FFT), (HOP * step, step), writeable=False)
