"""Reading recordings: formats, rates, channels, and files that are broken."""

from __future__ import annotations

import os
import shutil
import tracemalloc

import assay
import numpy as np
import pytest
import soundfile
import soxr
from assay_mel import MEL
from assay_mel.audio import read

RATES = [8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000]


def music(rate, seconds=1.3, channels=1):
    """Sines well below half of any rate, another in each channel."""
    time = np.arange(int(rate * seconds)) / rate
    return np.stack([0.3 * np.sin(2 * np.pi * (330 + 110 * i) * time) for i in range(channels)], axis=1)


def write(path, data, rate=16_000, **options):
    soundfile.write(path, data, rate, **options)
    return path


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_rates_and_channels(tmp_path, rate, channels):
    """Any of them becomes the mean of its channels at 16 kHz."""
    (audio,) = read(write(tmp_path / "a.wav", music(rate, channels=channels), rate, subtype="FLOAT"))

    assert audio.dtype == np.float32
    assert audio.shape == (round(int(rate * 1.3) * 16_000 / rate),)
    expected = music(16_000, channels=channels).mean(axis=1)
    inner = slice(400, -400)  # a resampler rings where a signal starts and ends abruptly
    np.testing.assert_allclose(audio[inner], expected[: audio.size][inner], atol=2e-3)


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_blocks_do_not_show(tmp_path, rate):
    """Resampled in one piece, the same."""
    noise = np.random.default_rng(0).standard_normal((rate * 20, 1)).astype(np.float32) * 0.1
    (audio,) = read(write(tmp_path / "a.wav", noise, rate, subtype="FLOAT"))

    np.testing.assert_allclose(audio, soxr.resample(noise[:, 0], rate, 16_000), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "options", "within"),
    [
        ("a.wav", {"subtype": "PCM_16"}, 1.5 * 2**-15),
        ("a.wav", {"subtype": "PCM_24"}, 1.5 * 2**-23),
        ("a.wav", {"subtype": "PCM_U8"}, 1.5 * 2**-7),
        ("a.wav", {"subtype": "FLOAT"}, 0),
        ("a.flac", {}, 1.5 * 2**-15),
        ("a.ogg", {}, 0.02),
        ("a.mp3", {}, 0.02),
    ],
)
def test_formats(tmp_path, name, options, within):
    """Lossless ones are exact to a step of their own, lossy ones near."""
    signal = music(16_000).astype(np.float32)
    (audio,) = read(str(write(tmp_path / name, signal, **options)))

    assert audio.size == signal.size
    np.testing.assert_allclose(audio, signal[:, 0], atol=within, rtol=0)


def test_int16_samples_are_exact(tmp_path):
    """At 16 kHz nothing is done to them but the division by 32768."""
    codes = np.random.default_rng(0).integers(-32768, 32768, 5_000).astype(np.int16)
    (audio,) = read(write(tmp_path / "a.wav", codes))

    np.testing.assert_array_equal(audio, codes / np.float32(32768))


def test_the_name_does_not_matter(tmp_path):
    """The content says what a file is."""
    flac = write(tmp_path / "a.flac", music(16_000))
    shutil.copy(flac, tmp_path / "recording")

    np.testing.assert_array_equal(read(tmp_path / "recording")[0], read(flac)[0])


def test_missing(tmp_path):
    """The path is in the message."""
    with pytest.raises(FileNotFoundError, match=r"nope\.wav does not exist"):
        read(tmp_path / "nope.wav")


def refused(path):
    """The one line that a bad file ends with."""
    with pytest.raises(assay.InvalidInput) as caught:
        read(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_folder(tmp_path):
    """A folder is no recording."""
    assert "is a folder" in refused(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not audio at all " * 99, os.urandom(9_999), b"RIFF\0\0\0\0WAVE"])
def test_not_audio(tmp_path, content):
    """Whatever its name says."""
    path = tmp_path / "a.wav"
    path.write_bytes(content)

    assert "is no recording" in refused(path)


def test_no_samples(tmp_path):
    """A header and nothing else."""
    assert "0 samples" in refused(write(tmp_path / "a.wav", np.zeros((0, 1))))


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.7, 0.99])
@pytest.mark.parametrize("name", ["a.wav", "a.aiff", "a.flac", "a.ogg", "a.mp3"])
def test_cut_short(tmp_path, name, kept):
    """Less than the header promises is refused, not taken for the whole."""
    noise = np.random.default_rng(0).standard_normal(16_000 * 5) * 0.1
    path = write(tmp_path / name, noise)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])

    assert "is cut short" in (message := refused(path)) or "damaged" in message


def test_ogg_without_its_last_page(tmp_path):
    """Whole pages, and still not the whole."""
    path = write(tmp_path / "a.ogg", np.random.default_rng(0).standard_normal(16_000 * 5) * 0.1)
    content = path.read_bytes()
    path.write_bytes(content[: content.rfind(b"OggS")])

    assert "is cut short" in refused(path)


def test_streamed_wav(tmp_path):
    """An encoder that writes to a pipe can't fill in the length: what is there is all there is."""
    path = write(tmp_path / "a.wav", music(16_000))
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(content)

    assert read(path)[0].size == len(music(16_000))


def test_long_recordings_are_read_in_blocks(tmp_path):
    """Five minutes of 44.1 kHz stereo, 106 MB decoded: besides the 19 MB of the result, a few blocks."""
    path = write(tmp_path / "a.wav", np.zeros((44_100 * 300, 2), np.int16), 44_100)

    tracemalloc.start()
    (audio,) = read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert audio.nbytes == 300 * 16_000 * 4
    assert peak < audio.nbytes + 4e6


def test_the_demo_recording(speech):
    """Small, and ours: some ten seconds of speech."""
    assert 8 < speech.size / 16_000 < 15
    assert 0.2 < np.abs(speech).max() <= 1.0


def test_the_operation_names_it():
    """The command line finds the reader there."""
    assert MEL.reader == f"{read.__module__}:{read.__name__}"
