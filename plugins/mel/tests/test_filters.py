"""The filter bank is the one that Whisper's models were trained on."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
from assay_mel.filters import hz_to_mel, mel_filters, mel_to_hz


@pytest.mark.parametrize("n_mels", [80, 128])
def test_equals_librosa(n_mels):
    """librosa's filters, which equal Whisper's published file bit for bit, up to its own rounding."""
    published = librosa.filters.mel(sr=16_000, n_fft=400, n_mels=n_mels)
    ours = mel_filters(n_mels)

    np.testing.assert_array_equal(ours > 0, published > 0)
    np.testing.assert_allclose(ours, published, rtol=1.2e-7 + 2**-52, atol=0)  # two roundings to float32


def test_scale_equals_librosa():
    """Both ways, below and above 1000 Hz."""
    hz = np.linspace(0, 8_000, 801)

    np.testing.assert_allclose(hz_to_mel(hz), librosa.hz_to_mel(hz), rtol=1e-12)
    np.testing.assert_allclose(mel_to_hz(hz_to_mel(hz)), hz, rtol=1e-12)


@pytest.mark.parametrize("n_mels", [80, 128])
def test_bands_have_unit_area(n_mels):
    """The upper bands, which many frequencies sample, integrate to one over Hz."""
    area = mel_filters(n_mels).sum(axis=1) * 40.0

    np.testing.assert_allclose(area[-10:], 1.0, rtol=0.02)
