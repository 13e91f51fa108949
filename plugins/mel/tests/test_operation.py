"""What the operation accepts, and what it says of the rest."""

from __future__ import annotations

import assay
import numpy as np
import pytest
from assay_mel import MEL
from assay_mel.operation import convert


@pytest.mark.parametrize(
    ("samples", "center", "frames"),
    [
        (201, True, 1),
        (319, True, 1),
        (320, True, 2),
        (480_000, True, 3000),
        (400, False, 1),
        (559, False, 1),
        (560, False, 2),
        (480_000, False, 2998),
    ],
)
def test_frames(samples, center, frames):
    """Centred: samples // 160. Otherwise: those that lie inside the signal."""
    spec = MEL.infer(np.empty(samples, np.float32), n_mels=128, center=center)

    assert spec == assay.Spec((128, frames), np.dtype(np.float32))


@pytest.mark.parametrize(
    ("audio", "params", "words"),
    [
        ([0.0] * 500, {}, "audio is a list; expected a numpy array"),
        (np.zeros((1, 500), np.float32), {}, r"shape \(1, 500\); expected \(samples,\)"),
        (np.zeros((), np.float32), {}, r"shape \(\)"),
        (np.zeros(500, np.int32), {}, "audio is int32; accepted are float32"),
        (np.zeros(500, np.complex64), {}, "audio is complex64"),
        (np.zeros(500, np.float16), {}, "audio is float16"),
        (np.zeros(0, np.float32), {}, "audio is empty; with center=True at least 201"),
        (np.zeros(200, np.float32), {}, "audio has 200 samples; with center=True at least 201"),
        (np.zeros(399, np.float32), {"center": False}, "399 samples; with center=False at least 400"),
        (np.zeros(500, np.float32), {"n_mels": 64}, "n_mels is 64; expected 80 or 128"),
        (np.zeros(500, np.float32), {"n_mels": True}, "n_mels is True"),
        (np.zeros(500, np.float32), {"n_mels": 80.0}, "n_mels is 80.0"),
        (np.zeros(500, np.float32), {"n_mels": "80"}, "n_mels is '80'"),
        (np.zeros(500, np.float32), {"center": 1}, "center is 1; expected True or False"),
        (np.zeros(500, np.float32), {"center": None}, "center is None"),
    ],
)
def test_what_does_not_fit_is_named(audio, params, words):
    """The message says what was found and what is accepted."""
    with pytest.raises(assay.InvalidInput, match=words):
        MEL.infer(audio, **{"n_mels": 80, "center": True, **params})


def test_defaults_are_whispers():
    """80 bands, centred."""
    assert MEL.defaults == {"n_mels": 80, "center": True}


def test_presets():
    """What each preset means in frames at a time."""
    assert MEL.presets == {"latency": 10, "balanced": 100, "throughput": 1000, "single": 1}


def test_work_is_audio_seconds():
    """Ten seconds are ten seconds, in any dtype."""
    assert MEL.work((np.zeros(160_000, np.int16),), {}) == 10.0


def test_int16_converts_exactly():
    """The end points of int16 are -1 and 1 - 2**-15."""
    codes = np.array([-32768, -1, 0, 1, 32767], np.int16)

    np.testing.assert_array_equal(
        convert(codes, np.dtype(np.float32)), np.array([-1, -(2**-15), 0, 2**-15, 1 - 2**-15], np.float32)
    )


def test_tolerances():
    """The figures of the contract; more only where a band lies so deep that float32 resolves no more."""
    audio = np.zeros(800, np.float32)
    expected = np.array([[1.0, 1.0], [0.9, -0.7]])

    def admitted(kind, accuracy=assay.Accuracy.EXACT):
        return MEL.tolerance(kind, (audio,), {}, expected, accuracy)

    assert admitted("noise").max_abs[0, 0] == admitted("noise").max_abs[1, 0] == 5e-6
    assert admitted("noise").rms is None
    assert admitted("speech").max_abs[0, 0] == 6e-5
    assert admitted("tone").max_abs[0, 0] == admitted("").max_abs[0, 0] == 1.5e-4
    # 1.7 features are 6.8 decades of power, a factor of 2512 in amplitude.
    np.testing.assert_allclose(admitted("noise").max_abs[1, 1], 2.512e-4, rtol=1e-3)
    approximate = admitted("noise", assay.Accuracy.APPROXIMATE)
    assert (approximate.max_abs, approximate.rms) == (5e-2, 1e-2)
