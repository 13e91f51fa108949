"""Wrong kernels for mel, each of which the gate must reject, and right ones in odd styles."""

# ruff: noqa: B006, B008 -- what outlives a call, in defaults here, is what many of these kernels are about

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import assay
import numpy as np
from assay.testing import Specimens
from assay_mel.filters import mel_filters
from numpy.lib.stride_tricks import sliding_window_view

SPECIMENS = Specimens("mel")
wrong, right = SPECIMENS.wrong, SPECIMENS.right


HANN = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)


def frames_of(audio: Any, center: bool, mode: str = "reflect") -> Any:
    padded = np.pad(audio, 200, mode=mode) if center else audio
    count = audio.size // 160 if center else (audio.size - 400) // 160 + 1
    return sliding_window_view(padded, 400)[::160][:count]


def log_mel(frames: Any, n_mels: int, window: Any = HANN, filters: Any = None, n_fft: int = 400) -> Any:
    """log10 power of frames, (n, n_mels), in float64 throughout."""
    filters = mel_filters(n_mels) if filters is None else filters
    power = np.abs(np.fft.rfft(frames.astype(np.float64) * window, n_fft)) ** 2
    return np.log10(np.maximum(power @ filters.T, 1e-10))


def settle(values: Any) -> Any:
    """Floor and scale of (n, n_mels), turned to (n_mels, n)."""
    return ((np.maximum(values, values.max() - 8) + 4) / 4).T.astype(np.float32)


def mel(audio: Any, n_mels: int, center: bool, **how: Any) -> Any:
    """The features done right: in float64, rounded once."""
    return settle(log_mel(frames_of(audio, center), n_mels, **how))


@cache
def htk_filters(n_mels: int) -> Any:
    def to_hz(m: Any) -> Any:
        return 700 * (10 ** (m / 2595) - 1)

    edges = to_hz(np.linspace(0, 2595 * np.log10(1 + 8000 / 700), n_mels + 2))
    hz = np.linspace(0, 8000, 201)
    low, peak, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    bands = np.maximum(0, np.minimum((hz - low) / (peak - low), (high - hz) / (high - peak)))
    return bands * (2 / (high - low))


# --- wrong: the features


@wrong()
def zeros(audio, *, n_mels, center):
    return np.zeros_like(mel(audio, n_mels, center))


@wrong()
def silence_for_everything(audio, *, n_mels, center):
    return np.full_like(mel(audio, n_mels, center), -1.5)


@wrong()
def one_frame_late(audio, *, n_mels, center):
    y = mel(audio, n_mels, center)
    return np.concatenate([y[:, :1], y[:, :-1]], axis=1)


@wrong()
def one_frame_early(audio, *, n_mels, center):
    y = mel(audio, n_mels, center)
    return np.concatenate([y[:, 1:], y[:, -1:]], axis=1)


@wrong()
def symmetric_window(audio, *, n_mels, center):
    return mel(audio, n_mels, center, window=np.hanning(400))


@wrong()
def hamming_window(audio, *, n_mels, center):
    return mel(audio, n_mels, center, window=np.hamming(401)[:400])


@wrong()
def htk_scale(audio, *, n_mels, center):
    return mel(audio, n_mels, center, filters=htk_filters(n_mels))


@wrong()
def no_slaney_norm(audio, *, n_mels, center):
    filters = mel_filters(n_mels)
    return mel(audio, n_mels, center, filters=filters / filters.max(axis=1, keepdims=True))


@wrong()
def natural_logarithm(audio, *, n_mels, center):
    values = log_mel(frames_of(audio, center), n_mels) * np.log(10)
    return settle(values)


@wrong()
def magnitude_for_power(audio, *, n_mels, center):
    return settle(log_mel(frames_of(audio, center), n_mels) / 2)


@wrong()
def maximum_per_frame(audio, *, n_mels, center):
    values = log_mel(frames_of(audio, center), n_mels)
    return ((np.maximum(values, values.max(axis=1, keepdims=True) - 8) + 4) / 4).T.astype(np.float32)


@wrong()
def maximum_per_thousand_frames(audio, *, n_mels, center):
    values = log_mel(frames_of(audio, center), n_mels)
    return np.concatenate([settle(values[i : i + 1000]) for i in range(0, len(values), 1000)], axis=1)


@wrong()
def no_floor(audio, *, n_mels, center):
    values = log_mel(frames_of(audio, center), n_mels)
    return ((values + 4) / 4).T.astype(np.float32)


@wrong()
def zero_padding(audio, *, n_mels, center):
    return settle(log_mel(frames_of(audio, center, "constant"), n_mels))


@wrong()
def symmetric_padding(audio, *, n_mels, center):
    return settle(log_mel(frames_of(audio, center, "symmetric"), n_mels))


@wrong()
def keeps_the_last_frame(audio, *, n_mels, center):
    if not center:
        return mel(audio, n_mels, center)
    return settle(log_mel(sliding_window_view(np.pad(audio, 200, mode="reflect"), 400)[::160], n_mels))


@wrong()
def mean_removed(audio, *, n_mels, center):
    return mel(audio - audio.mean(), n_mels, center)


@wrong()
def pre_emphasis(audio, *, n_mels, center):
    return mel(np.append(audio[:1], audio[1:] - np.float32(0.03) * audio[:-1]), n_mels, center)


@wrong()
def half_inside(audio, *, n_mels, center):
    return mel(audio.astype(np.float16), n_mels, center)


@wrong()
def half_filters(audio, *, n_mels, center):
    return mel(audio, n_mels, center, filters=mel_filters(n_mels).astype(np.float16).astype(np.float64))


@wrong()
def half_result(audio, *, n_mels, center):
    return mel(audio, n_mels, center).astype(np.float16).astype(np.float32)


@wrong()
def int8_result(audio, *, n_mels, center):
    return (np.round(mel(audio, n_mels, center) * 64) / 64).astype(np.float32)


@wrong(accuracy="approximate")
def int16_with_a_fixed_scale(audio, *, n_mels, center):
    return mel(np.round(audio * 256) / 256, n_mels, center)


@wrong()
def clips_what_is_loud(audio, *, n_mels, center):
    return mel(np.clip(audio, -0.9, 0.9), n_mels, center)


@wrong()
def right_only_when_loud(audio, *, n_mels, center):
    gate = np.float32(1e-3) if np.abs(audio).max() < 1e-3 else np.float32(1)
    return mel(audio * gate, n_mels, center)


@wrong()
def mutes_what_is_quiet(audio, *, n_mels, center):
    return mel(np.where(np.abs(audio) < 1e-5, 0, audio), n_mels, center)


# --- wrong: the domain


@wrong()
def eighty_bands_for_all(audio, *, n_mels, center):
    y = mel(audio, 80, center)
    return y if n_mels == 80 else np.repeat(y, 2, axis=0)[:n_mels]


@wrong()
def one_band_wrong_of_128(audio, *, n_mels, center):
    y = mel(audio, n_mels, center)
    if n_mels == 128:
        y[127] = y[126]
    return y


@wrong()
def always_centred(audio, *, n_mels, center):
    y = mel(audio, n_mels, True)
    count = audio.size // 160 if center else (audio.size - 400) // 160 + 1
    return y[:, :count]


@wrong(dtypes={"float32", "int16"})
def forgets_to_scale_int16(audio, *, n_mels, center):
    return mel(audio.astype(np.float32), n_mels, center)


@wrong(dtypes={"float32", "int16", "float64"})
def wrong_for_float64(audio, *, n_mels, center):
    if audio.dtype == np.int16:
        return mel(audio / np.float64(32768), n_mels, center)
    return mel(audio.astype(np.float16 if audio.dtype == np.float64 else np.float64), n_mels, center)


@wrong()
def right_for_multiples_of_16_frames(audio, *, n_mels, center):
    y = mel(audio, n_mels, center)
    y[:, y.shape[1] // 16 * 16 :] = -1.5
    return y


@wrong()
def unwritten_tail(audio, *, n_mels, center):
    right_one = mel(audio, n_mels, center)
    y = np.empty_like(right_one)
    n = y.shape[1] // 8 * 8
    y[:, :n] = right_one[:, :n]
    return y


@wrong()
def wrong_at_thirty_seconds(audio, *, n_mels, center):
    y = mel(audio, n_mels, center)
    if audio.size >= 480_000:
        y[:, 2990:] = y[:, 2989:2990]
    return y


@wrong()
def wrong_for_the_shortest(audio, *, n_mels, center):
    y = mel(audio, n_mels, center)
    return y if y.shape[1] > 1 else y * np.float32(0.99)


@wrong()
def ignores_the_remainder(audio, *, n_mels, center):
    """What follows the last whole hop is cut off before the reflection."""
    return mel(audio[: max(201, audio.size // 160 * 160)] if center else audio, n_mels, center)


# --- wrong: state and manners


@wrong()
def stale_buffer(audio, *, n_mels, center, _kept={}):
    y = mel(audio, n_mels, center)
    kept = _kept.setdefault(y.shape, np.empty_like(y))
    kept[...] = y
    return kept


@wrong()
def late_by_one(audio, *, n_mels, center, _kept={}):
    y = mel(audio, n_mels, center)
    before = _kept.get(y.shape, y)
    _kept[y.shape] = y
    return before.copy()


@wrong()
def right_on_the_first_call_only(audio, *, n_mels, center, _calls=[0]):
    _calls[0] += 1
    return mel(audio, n_mels, center) * np.float32(1 if _calls[0] == 1 else 1.01)


@wrong()
def every_seventh_call_wrong(audio, *, n_mels, center, _calls=[0]):
    _calls[0] += 1
    return mel(audio, n_mels, center) * np.float32(0 if _calls[0] % 7 == 0 else 1)


@wrong()
def noisy(audio, *, n_mels, center, _rng=np.random.default_rng()):
    y = mel(audio, n_mels, center)
    return (y + 1e-2 * _rng.standard_normal(y.shape)).astype(np.float32)


@wrong(accuracy="approximate")
def noisy_beyond_approximate(audio, *, n_mels, center, _rng=np.random.default_rng()):
    y = mel(audio, n_mels, center)
    return (y + 3e-2 * _rng.standard_normal(y.shape)).astype(np.float32)


@wrong()
def windows_its_input(audio, *, n_mels, center):
    y = mel(audio, n_mels, center)
    audio *= np.float32(0.5)
    return y


@wrong()
def shared_scratch(audio, *, n_mels, center, _kept={}):
    frames = frames_of(audio, center)
    scratch = _kept.setdefault(frames.shape, np.empty(frames.shape))
    np.multiply(frames, HANN, out=scratch)
    power = np.abs(np.fft.rfft(scratch)) ** 2
    return settle(np.log10(np.maximum(power @ mel_filters(n_mels).T, 1e-10)))


@wrong()
def raises_for_silence(audio, *, n_mels, center):
    if not audio.any():
        raise ZeroDivisionError("silence")
    return mel(audio, n_mels, center)


@wrong(checks_finite=True)
def does_not_check(audio, *, n_mels, center):
    return mel(audio, n_mels, center)


@wrong(checks_finite=True)
def misses_the_last_sample(audio, *, n_mels, center):
    if not np.isfinite(audio[:-1]).all():
        raise FloatingPointError("not finite")
    return mel(audio, n_mels, center)


@wrong(checks_finite=True)
def misses_minus_infinity(audio, *, n_mels, center):
    if np.isnan(audio).any() or audio.max() == np.inf:
        raise FloatingPointError("not finite")
    return mel(audio, n_mels, center)


@wrong(checks_finite=True)
def sees_only_what_it_uses(audio, *, n_mels, center):
    y = mel(audio, n_mels, center)
    if not np.isfinite(y).all():
        raise FloatingPointError("not finite")
    return y


@wrong(strided=True)
def takes_strides_for_contiguous(audio, *, n_mels, center):
    flat = np.lib.stride_tricks.as_strided(audio, audio.shape, (audio.itemsize,), writeable=False)
    return mel(flat, n_mels, center)


# --- wrong: items


@wrong(form="items", batch_sizes=(1, 10, 100))
def swapped_slots(frames, *, n_mels, center):
    y = log_mel(frames, n_mels).astype(np.float32)
    if len(y) > 1:
        y[[0, 1]] = y[[1, 0]]
    return y


@wrong(form="items", batch_sizes=(100,))
def repeated_slots(frames, *, n_mels, center):
    y = log_mel(frames, n_mels).astype(np.float32)
    return np.repeat(y[::2], 2, axis=0)


@wrong(form="items", batch_sizes=(1, 10, 100, 1000))
def last_slot_of_thousand_unwritten(frames, *, n_mels, center, out):
    n = len(frames) - (len(frames) == 1000)
    out[:n] = log_mel(frames[:n], n_mels)
    return out


@wrong(form="items", batch_sizes=(1, 10))
def one_slot_for_the_block(frames, *, n_mels, center):
    return np.broadcast_to(log_mel(frames[:1], n_mels).astype(np.float32), (len(frames), n_mels))


@wrong(form="items", batch_sizes=(10,))
def maximum_over_the_block(frames, *, n_mels, center):
    y = log_mel(frames, n_mels)
    return np.maximum(y, y.max() - 4).astype(np.float32)


@wrong(form="items", batch_sizes=(10,))
def windowed_twice(frames, *, n_mels, center):
    return log_mel(frames * HANN, n_mels).astype(np.float32)


@wrong(form="items")
def wrong_in_blocks_of_64_and_more(frames, *, n_mels, center):
    y = log_mel(frames, n_mels).astype(np.float32)
    y[64:] = y[63:64]
    return y


@wrong(form="items", batch_sizes=(16,), writes_out=True)
def leaves_the_lower_half_of_out(frames, *, n_mels, center, out):
    out[: len(out) // 2] = log_mel(frames[: len(out) // 2], n_mels)
    return out


# --- right, in odd styles


@right()
def plain(audio, *, n_mels, center):
    return mel(audio, n_mels, center)


@right()
def fortran_order(audio, *, n_mels, center):
    return np.asfortranarray(mel(audio, n_mels, center))


@right()
def view_of_more_frames(audio, *, n_mels, center):
    y = mel(audio, n_mels, center)
    wide = np.zeros((n_mels, y.shape[1] + 7), np.float32)
    wide[:, 3:-4] = y
    return wide[:, 3:-4]


@right()
def read_only(audio, *, n_mels, center):
    y = mel(audio, n_mels, center)
    y.setflags(write=False)
    return y


@right(writes_out=True, dtypes={"float32", "float64", "int16"})
def into_out(audio, *, n_mels, center, out):
    scale = 1 / 32768 if audio.dtype == np.int16 else 1.0
    out[...] = mel(audio * np.float64(scale), n_mels, center)
    return out


@right(params={"n_mels": {128}, "center": {False}})
def narrow(audio, *, n_mels, center):
    assert (n_mels, center) == (128, False)
    return mel(audio, n_mels, center)


@right()
def threads(audio, *, n_mels, center, _pool=ThreadPoolExecutor(2)):
    parts = np.array_split(frames_of(audio, center), 2)
    done = list(_pool.map(lambda part: log_mel(part, n_mels) if len(part) else np.empty((0, n_mels)), parts))
    return settle(np.concatenate(done))


@right()
def scratch_per_thread(audio, *, n_mels, center, _own=threading.local()):
    frames = frames_of(audio, center)
    if getattr(_own, "scratch", np.empty(0)).shape != frames.shape:
        _own.scratch = np.empty(frames.shape)
    np.copyto(_own.scratch, frames)
    return settle(log_mel(_own.scratch, n_mels))


@right(checks_finite=True)
def checks_everything(audio, *, n_mels, center):
    if not np.isfinite(audio).all():
        raise FloatingPointError("audio is not finite")
    return mel(audio, n_mels, center)


@right(strided=True)
def any_strides(audio, *, n_mels, center):
    return mel(audio, n_mels, center)


@right(accuracy="approximate")
def half_power_and_says_so(audio, *, n_mels, center):
    return mel(audio, n_mels, center).astype(np.float16).astype(np.float32)


@right()
def float32_throughout(audio, *, n_mels, center):
    frames = frames_of(audio, center) * HANN.astype(np.float32)
    spectrum = np.fft.rfft(frames).astype(np.complex64)
    power = spectrum.real**2 + spectrum.imag**2
    values = np.log10(np.maximum(power @ mel_filters(n_mels).T.astype(np.float32), np.float32(1e-10)))
    return ((np.maximum(values, values.max() - 8) + 4) / 4).T.astype(np.float32)


@right(form="items")
def items_of_any_number(frames, *, n_mels, center):
    return log_mel(frames, n_mels).astype(np.float32)


@right(form="items", batch_sizes=(1, 10, 100, 1000))
def items_into_out_or_not(frames, *, n_mels, center, out):
    out[...] = log_mel(frames, n_mels)
    return out if len(out) > 1 else out.copy()


@right(form="items", batch_sizes=(1,), writes_out=True)
def single_frames(frames, *, out, **rest):
    out[0] = log_mel(frames, rest["n_mels"])[0]
    return out


@right(form="items", batch_sizes=(7,), opener=True)
class device_with_buffers:
    """One call at a time, and buffers of its own."""

    def __init__(self, device: assay.Device, plan: assay.Plan) -> None:
        assert plan.batch_size == 7
        self.buffer = np.empty((7, 400))

    def __call__(self, frames, *, n_mels, center):
        self.buffer[...] = frames
        return log_mel(self.buffer, n_mels).astype(np.float32).T.copy().T
