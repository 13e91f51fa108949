"""How a recording becomes frames and how the results of the frames become its features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from assay import Arrays, Params
from assay.contract.operation import Array

from assay_mel.definition import HOP, N_FFT, PAD, count_frames
from assay_mel.framing import span, windows
from assay_mel.scaling import normalise


class Frames:
    """One recording cut into frames.

    Frames are read from the recording as they are asked for, and results go straight to their place in
    the answer, so that nothing is held besides the two.
    """

    def __init__(self, audio: Array, n_mels: int, center: bool, out: Array | None) -> None:
        self.count = count_frames(audio.size, center)
        self.shapes = ((N_FFT,),)
        self.result_shape = (n_mels,)
        self._answer = np.empty((n_mels, self.count), np.float32) if out is None else out

        pad = PAD if center else 0
        # Frames from `head` to `tail` lie inside the signal; the few before and after reach over its ends.
        head = min(self.count, -(-pad // HOP))
        tail = min(self.count, max(head, (audio.size + pad - N_FFT) // HOP + 1))
        self._head, self._tail = head, tail
        pieces = ((0, head), (head, tail), (tail, self.count))
        self._pieces = [(a, b, windows(span(audio, a, b, center))) for a, b in pieces if a < b]
        self._inside = next((view for a, _, view in self._pieces if a == head), None)

    def load(self, start: int, stop: int, blocks: Sequence[Array]) -> None:
        """Write frames start to stop, shape (stop - start, 400), not windowed."""
        (block,) = blocks
        if self._inside is not None and self._head <= start and stop <= self._tail:
            block[...] = self._inside[start - self._head : stop - self._head]
            return
        for first, last, view in self._pieces:
            a, b = max(start, first), min(stop, last)
            if a < b:
                block[a - start : b - start] = view[a - first : b - first]

    def store(self, start: int, stop: int, block: Array) -> None:
        """Take ``log10(max(power, 1e-10))`` of frames start to stop, shape (stop - start, n_mels)."""
        self._answer[:, start:stop] = block.T

    def result(self) -> Array:
        """The features: floor at the recording's maximum minus 8, and scale."""
        return normalise(self._answer)


def split(inputs: Arrays, params: Params, *, item_shape: tuple[int, ...] | None, out: Array | None) -> Frames:
    """Cut a recording into frames; a kernel has no say in their shape."""
    (audio,) = inputs
    assert audio is not None
    return Frames(audio, params["n_mels"], params["center"], out)
