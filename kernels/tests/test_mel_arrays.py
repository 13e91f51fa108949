"""What arrays the native log-mel takes, writes and refuses."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray


def noise(samples: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(samples).astype(np.float32)


def misaligned(array: NDArray[Any]) -> NDArray[Any]:
    """The same values, one byte off their alignment."""
    room = np.empty(array.nbytes + 1, np.uint8)
    view = room[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    assert not view.flags.aligned
    return view


LAYOUTS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "every second": lambda a: np.repeat(a, 2, axis=0)[::2],
    "backwards": lambda a: a[::-1].copy()[::-1],
    "a column": lambda a: np.stack([a, -a], axis=-1)[..., 0],
    "misaligned": misaligned,
    "misaligned, backwards": lambda a: misaligned(a[::-1])[::-1],
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
}


@pytest.mark.parametrize("dtype", ["float32", "int16"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_audio_of_any_layout(native: ModuleType, layout: str, dtype: str) -> None:
    """Any strides and alignment give, bit for bit, what a plain copy gives."""
    audio = np.round(noise(9_001) * 5_000).astype(dtype)

    features = native.log_mel(LAYOUTS[layout](audio))

    np.testing.assert_array_equal(features, native.log_mel(audio))


def test_audio_repeated_by_a_stride_of_zero(native: ModuleType) -> None:
    """A broadcast array is read as what it stands for."""
    audio = np.broadcast_to(np.float32(0.25), 1_000)

    np.testing.assert_array_equal(native.log_mel(audio), native.log_mel(audio.copy()))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_frames_of_any_layout(native: ModuleType, layout: str) -> None:
    """Item frames of any strides and alignment give what a plain copy gives."""
    frames = noise(37 * 400).reshape(37, 400)

    logs = native.log_mel_frames(LAYOUTS[layout](frames))

    np.testing.assert_array_equal(logs, native.log_mel_frames(frames))


def test_overlapping_frames(native: ModuleType) -> None:
    """Frames may be a sliding view of a signal."""
    frames = np.lib.stride_tricks.sliding_window_view(noise(5_000), 400)[::160]

    np.testing.assert_array_equal(native.log_mel_frames(frames), native.log_mel_frames(frames.copy()))


def test_inputs_are_not_written(native: ModuleType) -> None:
    """The audio is as it was after a call."""
    audio = noise(7_777)
    before = audio.copy()

    native.log_mel(audio)

    np.testing.assert_array_equal(audio, before)


@pytest.mark.parametrize("samples", [201, 1_000, 2_559, 2_560, 100_000])
def test_out_is_filled_and_returned(native: ModuleType, samples: int) -> None:
    """out= is the array that comes back, and every element of it is written."""
    audio = noise(samples)
    out = np.full((80, samples // 160), np.nan, np.float32)

    features = native.log_mel(audio, out=out)

    assert features is out
    np.testing.assert_array_equal(out, native.log_mel(audio))


def test_nothing_around_out_is_written(native: ModuleType) -> None:
    """The memory on both sides of out= stays as it is."""
    audio = noise(3_000)
    room = np.full(80 * 18 + 64, 7.0, np.float32)
    out = room[32:-32].reshape(80, 18)

    native.log_mel(audio, out=out)

    assert (room[:32] == 7).all()
    assert (room[-32:] == 7).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda shape: np.empty(shape[::-1], np.float32).T,
        lambda shape: np.empty((shape[0], 2 * shape[1]), np.float32)[:, ::2],
        lambda shape: np.empty(shape, np.float32)[::-1],
        lambda shape: misaligned(np.empty(shape, np.float32)),
    ],
    ids=["transposed", "strided", "backwards", "misaligned"],
)
def test_out_of_any_layout(native: ModuleType, make: Any) -> None:
    """out= may have any strides and alignment."""
    audio = noise(5_000)
    frames = noise(11 * 400).reshape(11, 400)

    out = make((80, 31))
    assert native.log_mel(audio, out=out) is out
    np.testing.assert_array_equal(out, native.log_mel(audio))

    out = make((11, 128))
    assert native.log_mel_frames(frames, n_mels=128, out=out) is out
    np.testing.assert_array_equal(out, native.log_mel_frames(frames, n_mels=128))


@pytest.mark.parametrize(
    "out",
    [
        np.empty((80, 30), np.float32),
        np.empty((128, 31), np.float32),
        np.empty((80, 31, 1), np.float32),
        np.empty((80, 31), np.float64),
        np.empty((80, 31), np.int32),
        np.empty((80, 31), ">f4"),
        np.frombuffer(bytes(80 * 31 * 4), np.float32).reshape(80, 31),
    ],
    ids=["frames", "mels", "rank", "float64", "int32", "big-endian", "read-only"],
)
def test_wrong_out(native: ModuleType, out: NDArray[Any]) -> None:
    """An out= of another shape or dtype, or one that can't be written, is a ValueError that names it."""
    with pytest.raises(ValueError, match=r"^out: expected"):
        native.log_mel(noise(5_000), out=out)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("samples", [201, 439, 440, 1_759, 25_599, 25_600])
def test_one_bad_sample_anywhere(native: ModuleType, samples: int, value: float, threads: int) -> None:
    """NaN or infinity in any place raises: first, last, in the padding, and where no frame reaches."""
    frames = samples // 160
    places = {0, 1, 199, 200, samples // 2, 160 * frames - 1, samples - 1, samples - 2, samples - 200}
    for at in sorted(places & set(range(samples))):
        audio = noise(samples)
        audio[at] = value

        for request in (audio, np.repeat(audio, 2)[::2]):
            with pytest.raises(FloatingPointError, match="audio: found NaN or infinity"):
                native.log_mel(request, threads=threads)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("samples", [400, 559, 560, 1_999])
def test_one_bad_sample_without_padding(native: ModuleType, samples: int, value: float) -> None:
    """The same without padding, where the tail may be in no frame."""
    for at in (0, 1, 399, samples - 1):
        audio = noise(samples)
        audio[at] = value

        with pytest.raises(FloatingPointError):
            native.log_mel(audio, center=False)


def test_bad_sample_in_every_place_of_a_frame(native: ModuleType) -> None:
    """An item frame is refused for a bad sample in any of its 400 places, in any lane."""
    for at in range(400):
        frames = noise(17 * 400).reshape(17, 400)
        frames[at % 17, at] = np.inf if at % 2 else np.nan

        with pytest.raises(FloatingPointError, match="frames: found NaN or infinity"):
            native.log_mel_frames(frames)


def test_samples_beyond_float32_powers(native: ModuleType) -> None:
    """Finite samples whose power float32 can't hold are another kernel's work, not garbage."""
    audio = noise(2_000) * np.float32(1e25)

    with pytest.raises(OverflowError, match="beyond float32"):
        native.log_mel(audio)
    with pytest.raises(OverflowError, match="beyond float32"):
        native.log_mel_frames(audio.reshape(5, 400))


@pytest.mark.parametrize(
    ("audio", "keywords", "error", "message"),
    [
        (noise(0), {}, ValueError, r"201 samples or more.*\(0,\)"),
        (noise(200), {}, ValueError, r"201 samples or more.*\(200,\)"),
        (noise(399), {"center": False}, ValueError, r"400 samples or more.*\(399,\)"),
        (noise(500).reshape(2, 250), {}, ValueError, r"shape \(samples,\).*\(2, 250\)"),
        (np.float32(1), {}, (ValueError, TypeError), "audio"),
        (noise(500).astype(np.float64), {}, TypeError, "float32 or int16"),
        (noise(500).astype(np.float16), {}, TypeError, "float32 or int16"),
        (noise(500).astype(">f4"), {}, TypeError, "float32 or int16"),
        (noise(500).astype(np.int32), {}, TypeError, "float32 or int16"),
        ([0.0] * 500, {}, TypeError, "numpy.ndarray, found list"),
        (noise(500), {"n_mels": 81}, ValueError, "80 or 128, found 81"),
        (noise(500), {"threads": 0}, ValueError, "threads: expected 1 or more"),
    ],
)
def test_what_is_refused(
    native: ModuleType, audio: Any, keywords: dict[str, Any], error: type[Exception], message: str
) -> None:
    """What is no request of the operation is refused, in words that name what was found."""
    with pytest.raises(error, match=message):
        native.log_mel(audio, **keywords)


def test_frames_that_are_refused(native: ModuleType) -> None:
    """Item frames have 400 samples of float32."""
    with pytest.raises(ValueError, match=r"shape \(n, 400\).*\(2, 200\)"):
        native.log_mel_frames(noise(400).reshape(2, 200))
    with pytest.raises(TypeError, match="float32"):
        native.log_mel_frames(np.zeros((2, 400), np.int16))


PEAK_OF_AN_HOUR = """
import sys
import numpy as np
from assay_kernels import _baseline


def status(field):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


audio = np.resize(np.random.default_rng(0).standard_normal(65_537).astype(np.float32), 16_000 * 3_600)
request = audio[::-1] if sys.argv[1] == "backwards" else audio
others = status("VmRSS") - audio.nbytes
features = _baseline.log_mel(request, threads=2)
print((status("VmHWM") - others) / (audio.nbytes + features.nbytes))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory figures as Linux gives them")
@pytest.mark.parametrize("layout", ["plain", "backwards"])
def test_memory_of_an_hour(layout: str, module_path: Callable[[str], Path]) -> None:
    """An hour of audio takes no more than a tenth above what the audio and its features take."""
    module_path("baseline")
    command = [sys.executable, "-c", PEAK_OF_AN_HOUR, layout]

    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert 1.0 <= float(done.stdout) <= 1.1
