"""Cutting a recording into frames, and making its features of their results."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from assay_mel import MEL, reference, signals
from assay_mel.backends import asrfront, librosa, numpy
from assay_mel.items import Frames


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("samples", [400, 401, 559, 560, 719, 720, 880, 1_040, 5_000])
def test_frames_are_numpys(draw, samples, center):
    """Every frame of every length, alone and in any block: numpy's padding and windows."""
    audio = draw(signals.noise, samples)
    padded = np.pad(audio, 200, mode="reflect") if center else audio
    items = Frames(audio, 80, center, None)
    expected = np.stack([padded[160 * i : 160 * i + 400] for i in range(items.count)])

    for start in range(items.count):
        for stop in range(start + 1, min(items.count, start + 6) + 1):
            block = np.full((stop - start, 400), np.nan, np.float32)
            items.load(start, stop, [block])
            np.testing.assert_array_equal(block, expected[start:stop])


def test_shortest(draw):
    """201 samples: one frame, reflected at both ends."""
    audio = draw(signals.noise, 201)
    block = np.empty((1, 400), np.float32)
    Frames(audio, 80, True, None).load(0, 1, [block])

    np.testing.assert_array_equal(block[0], np.pad(audio, 200, mode="reflect")[:400])


@pytest.mark.parametrize("given", [True, False])
def test_results_in_any_order(draw, given):
    """Blocks may be stored as they come; ``out`` is where the answer goes if there is one."""
    audio = draw(signals.loud_end, 9_999)
    out = np.full((80, 62), np.nan, np.float32) if given else None
    assert MEL.items is not None
    items = MEL.items.split((audio,), {"n_mels": 80, "center": True}, item_shape=None, out=out)
    blocks = [(40, 62), (0, 1), (1, 40)]
    for start, stop in blocks:
        frames = np.empty((stop - start, 400), np.float32)
        items.load(start, stop, [frames])
        items.store(start, stop, reference.log_mel_frames(frames, n_mels=80).astype(np.float32))

    answer = items.result()
    if given:
        assert answer is out
    np.testing.assert_allclose(answer, reference.mel(audio, n_mels=80, center=True), atol=3e-7)


def frames(audio, *, n_mels, center, out):
    """The batch processor's kernel in blocks of 100."""
    from assay_mel.backends.frames import mel

    items = Frames(audio, n_mels, center, out)
    for start in range(0, items.count, 100):
        stop = min(items.count, start + 100)
        block = np.empty((stop - start, 400), np.float32)
        items.load(start, stop, [block])
        items.store(start, stop, mel(block, n_mels=n_mels, center=center))
    return items.result()


@pytest.mark.parametrize("kernel", [frames, numpy.mel, librosa.mel], ids=lambda kernel: kernel.__module__)
def test_long_recordings_take_bounded_memory(draw, kernel):
    """Ten minutes: besides the audio (38 MB) and the features (19 MB), a few blocks."""
    audio = draw(signals.noise, 600 * 16_000)
    out = np.empty((80, 60_000), np.float32)
    kernel(audio[:160_000], n_mels=80, center=True, out=np.empty((80, 1000), np.float32))

    tracemalloc.start()
    kernel(audio, n_mels=80, center=True, out=out)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 10e6
    last = slice(59_000, 60_000)
    whole = asrfront.mel(audio, n_mels=80, center=True)
    np.testing.assert_allclose(out[:, last], whole[:, last], atol=1e-4)
