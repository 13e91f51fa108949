"""The reference against the plain sum of its definition and against other libraries in float64."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import scipy.signal
from assay_mel import reference, signals
from assay_mel.probes import CONTENTS


def test_transform_is_the_sum_that_defines_it():
    """One frame, one band at a time: window, sine and cosine sums, weights, logarithm."""
    frame = signals.noise(np.random.default_rng(0), 400)
    n = np.arange(400)
    window = np.sin(np.pi * n / 400) ** 2
    filters = librosa.filters.mel(sr=16_000, n_fft=400, n_mels=80, dtype=np.float64)
    power = [
        np.sum(frame * window * np.cos(2 * np.pi * k * n / 400)) ** 2
        + np.sum(frame * window * np.sin(2 * np.pi * k * n / 400)) ** 2
        for k in range(201)
    ]

    expected = [np.log10(max(band @ power, 1e-10)) for band in filters]
    np.testing.assert_allclose(reference.log_mel_frames(frame[None], n_mels=80)[0], expected, atol=1e-7)


@pytest.mark.parametrize("n_mels", [80, 128])
@pytest.mark.parametrize("signal", CONTENTS)
def test_centred_equals_librosa(signal, n_mels):
    """librosa's whole spectrogram in float64, framed, floored and scaled as Whisper does."""
    audio = signal(np.random.default_rng(1), 7_777)
    power = librosa.feature.melspectrogram(
        y=audio, sr=16_000, n_fft=400, hop_length=160, n_mels=n_mels, pad_mode="reflect", dtype=np.float64
    )[:, :-1]
    log = np.log10(np.maximum(power, 1e-10))
    expected = (np.maximum(log, log.max() - 8) + 4) / 4

    np.testing.assert_allclose(reference.mel(audio, n_mels=n_mels, center=True), expected, atol=1e-6)


def test_uncentred_equals_scipy():
    """scipy's spectrogram without padding."""
    audio = signals.noise(np.random.default_rng(1), 7_777)
    _, _, spectrum = scipy.signal.stft(
        audio,
        window=scipy.signal.get_window("hann", 400),
        nperseg=400,
        noverlap=240,
        boundary=None,
        padded=False,
    )
    filters = librosa.filters.mel(sr=16_000, n_fft=400, n_mels=80, dtype=np.float64)
    log = np.log10(filters @ np.abs(spectrum * 200) ** 2)  # scipy divides by the window's sum
    expected = (np.maximum(log, log.max() - 8) + 4) / 4

    np.testing.assert_allclose(reference.mel(audio, n_mels=80, center=False), expected, atol=1e-6)


def test_blocks_do_not_show(monkeypatch, draw):
    """The number of frames at a time is no part of the definition."""
    audio = draw(signals.noise, 20_000)
    whole = reference.mel(audio, n_mels=80, center=True)
    monkeypatch.setattr(reference, "BLOCK", 1)

    np.testing.assert_allclose(reference.mel(audio, n_mels=80, center=True), whole, atol=1e-12)


def test_settled_frames_keep_what_an_answer_keeps():
    """A frame's own maximum minus 8 is the lowest that any recording can floor it at."""
    log_mel = np.array([[0.0, -7.0, -10.0], [-3.0, -9.0, -10.0]])

    np.testing.assert_allclose(reference.settle(log_mel), [[1.0, -0.75, -1.0], [0.25, -1.25, -1.5]])
