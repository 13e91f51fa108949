"""Kernels that are wrong in ways that happen: each is rejected, and the probe that caught it is named.

All of them start from ``features``, which is right and passes.
"""

from __future__ import annotations

import warnings

import assay
import librosa
import numpy as np
import pytest
from assay_mel.filters import mel_filters


def htk_filters(n_mels):
    """The other mel scale; its lowest bands lie between two frequencies, and librosa warns."""
    with warnings.catch_warnings(action="ignore"):
        return librosa.filters.mel(sr=16_000, n_fft=400, n_mels=n_mels, htk=True)


HANN = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
SLANEY = {n_mels: mel_filters(n_mels) for n_mels in (80, 128)}
HTK = {n: htk_filters(n) for n in (80, 128)}
NOT_NORMED = {n: librosa.filters.mel(sr=16_000, n_fft=400, n_mels=n, norm=None) for n in (80, 128)}


def log_power(
    audio, n_mels, center, *, pad="reflect", window=HANN, filters=SLANEY, floor=1e-10, log=np.log10
):
    padded = np.pad(audio, 200, mode=pad) if center else audio
    frames = np.lib.stride_tricks.sliding_window_view(padded, 400)[::160]
    if center:
        frames = frames[: len(audio) // 160]
    power = np.abs(np.fft.rfft(frames * window)) ** 2
    return log(np.maximum(power @ filters[n_mels].T, floor)).T


def scaled(log_mel, decades=8.0, axis=None):
    top = log_mel.max(axis=axis, keepdims=True)
    return ((np.maximum(log_mel, top - decades) + 4) / 4).astype(np.float32)


def features(audio, *, n_mels, center):
    return scaled(log_power(audio, n_mels, center))


def with_options(**options):
    return lambda audio, *, n_mels, center: scaled(log_power(audio, n_mels, center, **options))


def of_changed_audio(change):
    return lambda audio, *, n_mels, center: features(change(audio), n_mels=n_mels, center=center)


def with_changed_result(change):
    def kernel(audio, *, n_mels, center):
        return np.ascontiguousarray(change(features(audio, n_mels=n_mels, center=center)), np.float32)

    return kernel


def late_by_one_frame(result):
    return np.concatenate((result[:, :1], result[:, :-1]), axis=1)


def last_frame_not_dropped(audio, *, n_mels, center):
    padded = np.pad(audio, 200, mode="reflect") if center else audio
    frames = np.lib.stride_tricks.sliding_window_view(padded, 400)[::160]
    power = np.abs(np.fft.rfft(frames * HANN)) ** 2
    return scaled(np.log10(np.maximum(power @ SLANEY[n_mels].T, 1e-10)).T)


def longer_transform(audio, *, n_mels, center):
    padded = np.pad(audio, 200, mode="reflect") if center else audio
    frames = np.lib.stride_tricks.sliding_window_view(padded, 400)[::160]
    frames = frames[: len(audio) // 160] if center else frames
    power = np.abs(np.fft.rfft(frames * HANN, 512)) ** 2
    filters = librosa.filters.mel(sr=16_000, n_fft=512, n_mels=n_mels)
    return scaled(np.log10(np.maximum(power @ filters.T, 1e-10)).T)


def maximum_of_each_frame(audio, *, n_mels, center):
    return scaled(log_power(audio, n_mels, center), axis=0)


def maximum_of_the_first_second(audio, *, n_mels, center):
    log_mel = log_power(audio, n_mels, center)
    return ((np.maximum(log_mel, log_mel[:, :100].max() - 8) + 4) / 4).astype(np.float32)


def only_multiples_of_16_frames(result):
    result[:, result.shape[1] // 16 * 16 :] = 0
    return result


def unwritten_tail(result):
    result[:, result.shape[1] // 16 * 16 :] = np.nan
    return result


def only_below_half_a_minute(result):
    result[:, 3000:] = -1.5
    return result


def repeats_its_first_thousand_frames(result):
    for start in range(1000, result.shape[1], 1000):
        part = result[:, start : start + 1000]
        part[...] = result[:, : part.shape[1]]
    return result


def silent_below_a_threshold(audio):
    return np.where(np.abs(audio) < 1e-3, 0, audio).astype(np.float32)


def as_int16(audio):
    return (np.round(audio * 32767).clip(-32768, 32767) / 32767).astype(np.float32)


WRONG = {
    "late by one frame": with_changed_result(late_by_one_frame),
    "last frame not dropped": last_frame_not_dropped,
    "symmetric window": with_options(window=np.hanning(400)),
    "no window": with_options(window=np.ones(400)),
    "HTK scale": with_options(filters=HTK),
    "filters not normed": with_options(filters=NOT_NORMED),
    "filters in half precision": with_options(
        filters={n: weights.astype(np.float16).astype(np.float64) for n, weights in SLANEY.items()}
    ),
    "transform of 512": longer_transform,
    "natural logarithm": with_options(log=np.log),
    "decibels": with_options(log=lambda power: 10 * np.log10(power)),
    "magnitude, not power": with_options(log=lambda power: 0.5 * np.log10(power)),
    "floor at 1e-5": with_options(floor=1e-5),
    "floor at 1e-12": with_options(floor=1e-12),
    "80 dB below the maximum, taken as 10": lambda audio, *, n_mels, center: scaled(
        log_power(audio, n_mels, center), 10.0
    ),
    "no floor": lambda audio, *, n_mels, center: scaled(log_power(audio, n_mels, center), 99.0),
    "maximum of each frame": maximum_of_each_frame,
    "maximum of the first second": maximum_of_the_first_second,
    "padded with zeros": with_options(pad="constant"),
    "padded with the edge": with_options(pad="edge"),
    "padded symmetrically": with_options(pad="symmetric"),
    "padded round the other end": with_options(pad="wrap"),
    "audio in half precision": of_changed_audio(lambda audio: audio.astype(np.float16).astype(np.float32)),
    "audio in int16": of_changed_audio(as_int16),
    "audio clipped": of_changed_audio(lambda audio: audio.clip(-0.9, 0.9)),
    "audio 32768 / 32767 too loud": of_changed_audio(lambda audio: audio * np.float32(32768 / 32767)),
    "soft samples dropped": of_changed_audio(silent_below_a_threshold),
    "loudness equalised": of_changed_audio(lambda audio: audio / max(np.abs(audio).max(), 1e-9)),
    "result in half precision": with_changed_result(lambda result: result.astype(np.float16)),
    "result in 8 bits": with_changed_result(lambda result: np.round(result * 64) / 64),
    "result clipped to 0 to 1": with_changed_result(lambda result: result.clip(0, 1)),
    "zeros": with_changed_result(np.zeros_like),
    "silence": with_changed_result(lambda result: np.full_like(result, -1.5)),
    "transposed in memory": with_changed_result(lambda result: result.T.copy().reshape(result.shape)),
    "only multiples of 16 frames": with_changed_result(only_multiples_of_16_frames),
    "unwritten tail": with_changed_result(unwritten_tail),
    "only below half a minute": with_changed_result(only_below_half_a_minute),
    "the first thousand frames again and again": with_changed_result(repeats_its_first_thousand_frames),
    "always 80 bands": lambda audio, *, n_mels, center: features(audio, n_mels=80, center=center),
    "always centred": lambda audio, *, n_mels, center: features(audio, n_mels=n_mels, center=True),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_kernel_is_rejected(offer, name):
    """For its numbers or its shape, and not for an accident."""
    candidate = offer(WRONG[name])

    assert candidate.verdict is assay.Verdict.REJECTED
    assert [reason.code for reason in candidate.reasons] == [assay.ReasonCode.INACCURATE]
    assert "probe '" in candidate.reasons[0].message


def test_right_kernel_is_admitted(offer):
    """The formula in plain numpy passes: the gate is not merely closed."""
    candidate = offer(features)

    assert candidate.verdict is assay.Verdict.CHOSEN, str(candidate.reasons)


def divided_by_32767(audio, *, n_mels, center):
    return features(audio / np.float32(32767), n_mels=n_mels, center=center)


def negated_in_int16(audio, *, n_mels, center):
    """Power does not know a sign, but -32768 has no negative in int16."""
    return features(-audio / np.float32(32768), n_mels=n_mels, center=center)


@pytest.mark.parametrize("kernel", [divided_by_32767, negated_in_int16])
def test_int16_is_probed_as_int16(offer, kernel):
    """A scale that is off by a part in 32768, and an overflow at the lowest sample."""
    candidate = offer(kernel, dtypes={"int16"})

    assert [reason.code for reason in candidate.reasons] == [assay.ReasonCode.INACCURATE]


def test_int16_kernel_is_admitted(offer):
    """Divided by 32768, it passes."""
    candidate = offer(
        lambda audio, *, n_mels, center: features(audio / np.float32(32768), n_mels=n_mels, center=center),
        dtypes={"int16"},
    )

    assert candidate.verdict is assay.Verdict.CHOSEN, str(candidate.reasons)


def test_quantised_result_is_admitted_as_approximate(offer):
    """Eight bits over the range are within the looser class, and only there."""
    candidate = offer(WRONG["result in 8 bits"], accuracy="approximate")

    assert candidate.certificate is not None, str(candidate.reasons)


def raw(frames, n_mels):
    power = np.abs(np.fft.rfft(frames * HANN)) ** 2
    return np.log10(np.maximum(power @ SLANEY[n_mels].T, 1e-10)).astype(np.float32)


ITEM_KERNELS = {
    "windowed twice": lambda frames, *, n_mels, center: raw(frames * HANN.astype(np.float32), n_mels),
    "already scaled": lambda frames, *, n_mels, center: (raw(frames, n_mels) + 4) / 4,
    "floored at the block's maximum": lambda frames, *, n_mels, center: np.maximum(
        raw(frames, n_mels), raw(frames, n_mels).max() - 8
    ),
    "second half of the block repeats the first": lambda frames, *, n_mels, center: np.resize(
        raw(frames, n_mels)[: max(1, len(frames) // 2)], (len(frames), n_mels)
    ),
    "last slot unwritten": lambda frames, *, n_mels, center: np.concatenate(
        (raw(frames, n_mels)[:-1], np.zeros((1, n_mels), np.float32))
    ),
    "slots in reverse": lambda frames, *, n_mels, center: raw(frames[::-1], n_mels),
}


@pytest.mark.parametrize("name", ITEM_KERNELS)
def test_wrong_item_kernel_is_rejected(offer, name):
    """Blocks of frames are held against the reference slot by slot."""
    candidate = offer(ITEM_KERNELS[name], form="items", batch_sizes=[1, 10, 100])

    assert [reason.code for reason in candidate.reasons] == [assay.ReasonCode.INACCURATE]


def test_right_item_kernel_is_admitted(offer):
    """The same formula on a block."""
    candidate = offer(lambda frames, *, n_mels, center: raw(frames, n_mels), form="items")

    assert candidate.verdict is assay.Verdict.CHOSEN, str(candidate.reasons)
