"""The native log-mel against the definition in float64."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Float32 = NDArray[np.float32]


def mel_filters(n_mels: int) -> Float64:
    """Slaney's triangles, each of area one in Hz: (n_mels, 201)."""
    steps = np.linspace(0.0, 15 + 27 * np.log(8.0) / np.log(6.4), n_mels + 2)
    hz = np.where(steps < 15, steps * 200 / 3, 1000 * 6.4 ** ((steps - 15) / 27))
    low, peak, high = hz[:-2, None], hz[1:-1, None], hz[2:, None]
    bins = np.arange(201) * 40.0
    triangles: Float64 = np.minimum((bins - low) / (peak - low), (high - bins) / (high - peak))
    filters: Float64 = np.maximum(triangles, 0) * 2 / (high - low)
    return filters


def cut(audio: NDArray[Any], center: bool) -> Float64:
    """Frames of 400 samples, not windowed."""
    signal = audio.astype(np.float64)
    count = len(signal) // 160 if center else (len(signal) - 400) // 160 + 1
    if center:
        signal = np.pad(signal, 200, mode="reflect")
    frames: Float64 = np.lib.stride_tricks.sliding_window_view(signal, 400)[::160][:count]
    return frames


def log_mel_frames(frames: NDArray[Any], n_mels: int) -> Float64:
    """The logarithms of mel powers: (n, n_mels)."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    power = np.abs(np.fft.rfft(frames.astype(np.float64) * window)) ** 2
    logs: Float64 = np.log10(np.maximum(power @ mel_filters(n_mels).T, 1e-10))
    return logs


def log_mel(audio: NDArray[Any], n_mels: int = 80, center: bool = True) -> Float64:
    """Whisper's features: (n_mels, frames)."""
    logs = log_mel_frames(cut(audio, center), n_mels).T
    features: Float64 = (np.maximum(logs, logs.max() - 8) + 4) / 4
    return features


def assert_close(found: NDArray[Any], right: Float64, largest: float = 5e-6, axis: int = 0) -> None:
    """Hold features, or their logarithms, to a largest error; `axis` is that of the mel bands.

    A float32 transform leaves noise of a few 1e-7 of a frame's amplitude in every band, however empty.
    So a band in which the signal cancels is held to 5e-7 of the amplitude of its frame's fullest.
    """
    per_decade = 0.25 if axis == 0 else 1.0  # of power: features are a quarter of the logarithm
    peak = right.max(axis=axis, keepdims=True)
    resolved = per_decade * 4e-7 * 10 ** ((peak - right) / (2 * per_decade))
    assert found.shape == right.shape
    worst = np.max(np.abs(found - right) / np.maximum(largest, resolved), initial=0.0)
    assert worst <= 1, f"{worst:.2f} times what is admitted"


def signals() -> dict[str, tuple[Float64, float, float]]:
    """Signals of 3 s, with the largest and the root mean square error that a float32 transform may have."""
    rng = np.random.default_rng(11)
    t = np.arange(48_000) / 16_000
    noise = rng.standard_normal(t.size)
    envelope = np.clip(np.sin(2 * np.pi * 1.7 * t), 0, None) ** 2 + 1e-3
    tone = np.sin(2 * np.pi * 1013.7 * t)
    chirp = 0.9 * np.sin(2 * np.pi * (50 * t + 1300 * t * t))
    click = np.zeros_like(t)
    click[20_000] = 1.0
    voice = sum(np.sin(2 * np.pi * 117.3 * k * t) / k for k in range(1, 30)) * envelope * 0.2
    return {
        "noise": (0.1 * noise, 5e-6, 5e-6),
        "quiet noise": (1e-4 * noise, 5e-6, 5e-6),
        "noise with pauses": (0.2 * noise * envelope, 5e-6, 5e-6),
        "silence": (np.zeros_like(t), 5e-6, 5e-6),
        "click": (click, 5e-6, 5e-6),
        "voice": (voice, 6e-5, 6e-6),
        "chirp": (chirp, 6e-5, 6e-6),
        "chirp and noise": (0.8 * chirp + 0.01 * noise, 6e-5, 6e-6),
        "square": (np.sign(np.sin(2 * np.pi * 100.3 * t + 0.1)), 6e-5, 6e-6),
        "tone": (0.9 * tone, 1.5e-4, 1e-5),
        "full-scale tone": (0.99 * np.sin(2 * np.pi * 3333.3 * t), 1.5e-4, 1e-5),
        "tone, then silence": (np.where(t < 1.5, tone, 0.0), 1.5e-4, 1e-5),
    }


@pytest.mark.parametrize("n_mels", [80, 128])
def test_reference_filters_are_librosas(n_mels: int) -> None:
    """The filters of this file's reference are librosa's, which are Whisper's."""
    librosa = pytest.importorskip("librosa")

    published = librosa.filters.mel(sr=16_000, n_fft=400, n_mels=n_mels)

    np.testing.assert_allclose(mel_filters(n_mels), published, atol=1e-8)


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("n_mels", [80, 128])
@pytest.mark.parametrize("name", signals())
def test_signals(native: ModuleType, name: str, n_mels: int, center: bool) -> None:
    """Every signal is within the tolerance of its kind."""
    signal, largest, rms = signals()[name]
    audio = signal.astype(np.float32)
    expected = log_mel(audio, n_mels, center)

    features = native.log_mel(audio, n_mels=n_mels, center=center)

    assert_close(features, expected, largest)
    assert np.sqrt(np.mean((features - expected) ** 2)) <= rms


@pytest.mark.parametrize("center", [True, False])
def test_every_short_length(native: ModuleType, center: bool) -> None:
    """Every length from the shortest on, over several tiles, has the right frames at both ends."""
    rng = np.random.default_rng(5)
    for samples in range(201 if center else 400, 2100, 7 if native.lanes == 4 else 1):
        audio = rng.standard_normal(samples).astype(np.float32)

        features = native.log_mel(audio, center=center)

        assert_close(features, log_mel(audio, 80, center))


@pytest.mark.parametrize("frames", [31, 32, 33, 127, 128, 129, 143, 144, 145, 255, 256, 257, 400])
def test_edges_of_tiles_and_tasks(native: ModuleType, frames: int) -> None:
    """Numbers of frames around the sizes that the kernel works in are right to the last frame."""
    rng = np.random.default_rng(frames)
    for extra in (0, 1, 39, 40, 41, 159):
        audio = rng.standard_normal(160 * frames + extra).astype(np.float32)
        audio *= np.linspace(0.01, 1, audio.size, dtype=np.float32)  # no two frames alike

        for threads in (1, 2):
            features = native.log_mel(audio, threads=threads)

            assert_close(features, log_mel(audio))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    samples=st.integers(201, 9000),
    level=st.floats(1e-6, 1.0),
    n_mels=st.sampled_from([80, 128]),
    center=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_random_requests(
    native: ModuleType, samples: int, level: float, n_mels: int, center: bool, seed: int
) -> None:
    """Random lengths, levels and parameters agree with the definition."""
    rng = np.random.default_rng(seed)
    samples = max(samples, 400) if not center else samples
    audio = (level * rng.uniform(-1, 1, samples)).astype(np.float32)

    features = native.log_mel(audio, n_mels=n_mels, center=center)

    assert features.dtype == np.float32
    assert_close(features, log_mel(audio, n_mels, center))


@pytest.mark.parametrize("center", [True, False])
def test_int16_is_divided_by_32768(native: ModuleType, center: bool) -> None:
    """int16 gives, bit for bit, what the same samples as floats give."""
    rng = np.random.default_rng(2)
    pcm = rng.integers(-32768, 32768, 20_011, dtype=np.int16)

    features = native.log_mel(pcm, center=center)

    np.testing.assert_array_equal(features, native.log_mel(pcm.astype(np.float32) / 32768, center=center))


def test_click_in_every_place_of_a_frame(native: ModuleType) -> None:
    """A lone sample keeps its precision where the window all but hides it, at both of its ends."""
    for at in range(400, 801):
        audio = np.zeros(1_300, np.float32)
        audio[at] = 0.7

        assert_close(native.log_mel(audio), log_mel(audio), largest=1e-6)


@pytest.mark.parametrize("n_mels", [80, 128])
@pytest.mark.parametrize("count", [0, 1, 2, 15, 16, 17, 130])
def test_items(native: ModuleType, count: int, n_mels: int) -> None:
    """The item form gives each frame's logarithms as they are: no floor but 1e-10, no scale."""
    rng = np.random.default_rng(count)
    levels = 10.0 ** rng.uniform(-8, 0, (count, 1))
    frames = (levels * rng.standard_normal((count, 400))).astype(np.float32)

    logs = native.log_mel_frames(frames, n_mels=n_mels)

    assert_close(logs, log_mel_frames(frames, n_mels), axis=1)


def test_items_and_whole_agree(native: ModuleType) -> None:
    """The frames of a recording, floored, scaled and transposed, are its features."""
    audio = np.random.default_rng(3).standard_normal(8_000).astype(np.float32)
    frames = cut(audio, center=True).astype(np.float32)

    logs = native.log_mel_frames(frames).T

    merged = (np.maximum(logs, logs.max() - 8) + 4) / 4
    np.testing.assert_allclose(merged, native.log_mel(audio), atol=2e-6)


def test_floor_is_the_whole_recordings(native: ModuleType) -> None:
    """A loud end floors a quiet beginning minutes before."""
    rng = np.random.default_rng(4)
    audio = (1e-6 * rng.standard_normal(16_000 * 20)).astype(np.float32)
    audio[-1_000:] += rng.standard_normal(1_000).astype(np.float32)

    features = native.log_mel(audio)

    assert features.min() == pytest.approx(features.max() - 2, abs=1e-6)
    assert_close(features, log_mel(audio))


def test_denormal_samples_are_silence(native: ModuleType) -> None:
    """Samples below 1e-38 give silence, and arithmetic after the call is as it was before."""
    audio = np.full(4_000, 1e-40, np.float32)

    features = native.log_mel(audio)

    np.testing.assert_allclose(features, -1.5, atol=1e-6)
    assert (audio * np.float32(0.5)).min() > 0  # the thread still knows denormals
