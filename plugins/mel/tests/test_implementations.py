"""Every implementation over signals, lengths, dtypes and parameters."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import assay
import numpy as np
import pytest
from assay_mel import MEL, signals
from assay_mel.probes import CONTENTS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FRAMINGS = [True, False]


def needs_framing(mel, center):
    """asrfront centres its frames and declares so."""
    if mel.serving == "mel.asrfront" and not center:
        pytest.skip("it takes center=True only, as it declares")


@pytest.mark.parametrize("center", FRAMINGS)
@pytest.mark.parametrize("n_mels", [80, 128])
@pytest.mark.parametrize(("signal", "kind"), CONTENTS.items())
def test_signals(mel, check, draw, signal, kind, n_mels, center):
    """Whatever the signal, the features are the reference's."""
    needs_framing(mel, center)
    audio = draw(signal, 8_123)

    check(mel(audio, n_mels=n_mels, center=center), audio, kind, n_mels, center)


@pytest.mark.parametrize("center", FRAMINGS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(samples=st.integers(400, 40_000), seed=st.integers(0, 2**32 - 1), n_mels=st.sampled_from([80, 128]))
def test_lengths(mel, check, draw, center, samples, seed, n_mels):
    """Any length, with noise from the first sample to the last."""
    needs_framing(mel, center)
    audio = draw(signals.noise, samples, seed)

    check(mel(audio, n_mels=n_mels, center=center), audio, "noise", n_mels, center)


@pytest.mark.parametrize("samples", [201, 202, 239, 319, 320, 321, 399])
def test_shorter_than_a_frame(mel, check, draw, samples):
    """Reflection makes up a whole frame from 201 samples on."""
    audio = draw(signals.noise, samples)

    check(mel(audio), audio, "noise")


@pytest.mark.parametrize("center", FRAMINGS)
def test_speech(mel, check, speech, center):
    """Synthetic speech, resampled."""
    needs_framing(mel, center)

    check(mel(speech, center=center), speech, "speech", center=center)


def test_silence_is_minus_one_and_a_half(mel):
    """log10 of 1e-10, plus 4, over 4."""
    np.testing.assert_allclose(mel(np.zeros(16_000, np.float32)), -1.5, atol=1e-6)


def test_int16_is_divided_by_32768(mel, check):
    """The lowest sample is -1, and every int16 means the same as its float32."""
    codes = np.random.default_rng(0).integers(-32768, 32768, 9_000).astype(np.int16)
    codes[:2] = -32768, 32767

    check(mel(codes), codes, "noise")
    np.testing.assert_array_equal(mel(codes), mel((codes / 32768).astype(np.float32)))


def test_float64_is_cast(mel):
    """Whatever float32 leaves of it counts."""
    audio = signals.noise(np.random.default_rng(0), 9_000)

    np.testing.assert_array_equal(mel(audio), mel(audio.astype(np.float32)))


def test_out_is_filled_and_returned(mel, check, draw):
    """Every element of ``out`` is written, and nothing else is returned."""
    audio = draw(signals.noise, 12_345)
    out = np.full((80, 77), np.nan, np.float32)

    assert mel(audio, out=out) is out
    check(out, audio, "noise")


def test_strided_audio(mel, check, draw):
    """One channel of interleaved stereo."""
    stereo = draw(signals.noise, 20_000).reshape(-1, 2)

    check(mel(stereo[:, 1]), np.ascontiguousarray(stereo[:, 1]), "noise")


def test_threads(mel, check, draw):
    """Calls from many threads do not disturb each other."""
    recordings = [draw(signals.noise, 3_000 + 777 * i, i) for i in range(16)]

    with ThreadPoolExecutor(4) as pool:
        for audio, got in zip(recordings, pool.map(mel, recordings), strict=True):
            check(got, audio, "noise")


@pytest.mark.parametrize("batch_size", [1, 7, 100, 125, 126, 1000])
def test_batch_sizes(runtime, check, draw, batch_size):
    """The batch processor takes any number of frames at a time, and it makes no difference."""
    audio = draw(signals.noise, 16_000 * 4 + 99)

    with runtime("frames", batch_size=batch_size) as opened:
        check(opened.op(MEL)(audio), audio, "noise")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_non_finite_audio_is_refused(mel, value, dtype):
    """One bad sample is named, whoever serves."""
    audio = np.zeros(1_000, dtype)
    audio[417] = value

    with pytest.raises(assay.InvalidInput, match="417"):
        mel(audio)


def test_asrfront_leaves_other_framings_to_others(runtime):
    """What it cannot do it does not declare."""
    with runtime("asrfront") as opened, pytest.raises(assay.NoImplementation, match="takes center in"):
        opened.op(MEL)(np.zeros(1_000, np.float32), center=False)
