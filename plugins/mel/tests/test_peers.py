"""The features are the ones that others compute, for the models that were trained on them."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
from assay_mel import signals

SIGNALS = [
    (signals.noise, 5e-6),
    (signals.chirp, 6e-5),
    (signals.tone, 1.5e-4),
    (signals.silence, 1e-6),
    (signals.click, 6e-5),
    ("speech", 6e-5),
]
"""Signals, and the contract's tolerance, which is held on both sides: twice that may lie between them."""


@pytest.fixture(params=SIGNALS, ids=lambda param: getattr(param[0], "__name__", param[0]))
def recording(request, speech):
    signal, tolerance = request.param
    if signal == "speech":
        return speech, tolerance
    return signal(np.random.default_rng(3), 16_000 * 3 + 123).astype(np.float32), tolerance


def by_librosa(audio, n_mels):
    power = librosa.feature.melspectrogram(
        y=audio, sr=16_000, n_fft=400, hop_length=160, n_mels=n_mels, pad_mode="reflect"
    )
    log = np.log10(np.maximum(power[:, :-1], 1e-10))
    return (np.maximum(log, log.max() - 8) + 4) / 4


def by_faster_whisper(audio, n_mels):
    from faster_whisper.feature_extractor import FeatureExtractor

    return FeatureExtractor(feature_size=n_mels)(audio, padding=0)[:, : audio.size // 160]


def by_transformers_numpy(audio, n_mels):
    from transformers import WhisperFeatureExtractor

    extractor = WhisperFeatureExtractor(feature_size=n_mels)
    return extractor._np_extract_fbank_features(audio[None], "cpu")[0]


def by_transformers_torch(audio, n_mels):
    from transformers import WhisperFeatureExtractor

    extractor = WhisperFeatureExtractor(feature_size=n_mels)
    return extractor._torch_extract_fbank_features(audio[None], "cpu")[0]


@pytest.mark.parametrize("n_mels", [80, 128])
@pytest.mark.parametrize(
    "peer",
    [
        by_librosa,
        pytest.param(by_faster_whisper, marks=pytest.mark.peers),
        pytest.param(by_transformers_numpy, marks=pytest.mark.peers),
        pytest.param(by_transformers_torch, marks=pytest.mark.peers),
    ],
)
def test_equals_peer(mel, recording, peer, n_mels):
    """Every implementation against every peer."""
    audio, tolerance = recording

    np.testing.assert_allclose(mel(audio, n_mels=n_mels), peer(audio, n_mels), atol=2 * tolerance, rtol=0)
