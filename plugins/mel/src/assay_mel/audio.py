"""Reads recordings: any rate, any number of channels, to float32 mono at 16 kHz."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from assay import InvalidInput
from numpy.typing import NDArray

from assay_mel.definition import SAMPLE_RATE

try:
    import soundfile
    import soxr
except ImportError as error:
    raise ImportError(
        f"reading recordings needs {error.name}: pip install 'assay-mel[audio]'", name=error.name
    ) from error

Float32 = NDArray[np.float32]

BLOCK = 1 << 16
"""Samples, of all channels together, that are decoded, mixed and resampled at a time."""
HOUR = 3600 * SAMPLE_RATE
"""What room is made for at first, at most: a header may claim anything."""

FORMATS = "WAV, FLAC, OGG and MP3"
CUT_SHORT = re.compile(r"(\d+) \(should be (\d+)\)")
"""How libsndfile notes that a chunk claims another size than the file leaves it."""
UNKNOWN = 0x7FFFF000
"""Sizes from here on are what encoders write that cannot go back and fill in the true one."""
LAST_PAGE = 0x04
"""The flag of the last page of an Ogg stream (RFC 3533)."""
OGG_PAGE = 65_307
"""The largest Ogg page, in bytes."""


def read(path: str | Path) -> tuple[Float32]:
    """Read a recording.

    Channels are mixed to their mean, other rates are resampled (soxr, "HQ"). The file is decoded in blocks,
    so that besides the result only one block is held.

    An MP3 of variable bit rate that lacks the usual header (Xing, VBRI) is read as far as libsndfile
    estimates its length.

    Args:
        path: WAV, FLAC, OGG, MP3, or whatever else libsndfile reads.

    Returns:
        The operation's one input: float32, shape (samples,), mono at 16 kHz.

    Raises:
        FileNotFoundError: There is no such file.
        assay.InvalidInput: It is a folder, holds no audio that can be read, none at all, or ends too early.
    """
    path = Path(path)
    if path.is_dir():
        raise InvalidInput(f"{path} is a folder; expected a recording ({FORMATS})")
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        with soundfile.SoundFile(path) as file:
            audio, decoded = _decode(file)
            if decoded < file.frames or _ends_early(file, path):
                raise InvalidInput(
                    f"{path} is cut short: it holds {decoded / file.samplerate:.2f} s of audio and then ends "
                    "before its time; copy it again, or convert it to keep what is there"
                )
    except soundfile.LibsndfileError as error:
        why = error.error_string.removeprefix("Error : ").rstrip(". ")
        if "does not exist" in why:  # what libsndfile says of a file without one MPEG frame
            why = "no audio was found in it"
        raise InvalidInput(f"{path} is no recording, or a damaged one: {why}; {FORMATS} are read") from error
    if not audio.size:
        raise InvalidInput(f"{path} holds no audio: 0 samples")
    return (audio,)


def _decode(file: soundfile.SoundFile) -> tuple[Float32, int]:
    """The whole file as mono at 16 kHz, and how many samples per channel were decoded."""
    rate = file.samplerate
    resampler = None if rate == SAMPLE_RATE else soxr.ResampleStream(rate, SAMPLE_RATE, 1, "float32")
    size = max(1, BLOCK // file.channels)
    # Written in place: joining blocks at the end would hold the recording twice.
    audio: Float32 = np.empty(min(file.frames * SAMPLE_RATE // rate, HOUR) + BLOCK, np.float32)
    filled = decoded = 0
    while True:
        block = file.read(size, dtype="float32", always_2d=True)
        decoded += len(block)
        part = block.mean(axis=1, dtype=np.float32) if file.channels > 1 else block[:, 0]
        if resampler is not None:
            part = resampler.resample_chunk(part, last=not len(block))
        if filled + len(part) > audio.size:
            audio.resize(filled + len(part) + audio.size // 2, refcheck=False)
        audio[filled : filled + len(part)] = part
        filled += len(part)
        if not len(block):
            audio.resize(filled, refcheck=False)
            return audio, decoded


def _ends_early(file: soundfile.SoundFile, path: Path) -> bool:
    """Whether the container says that more should follow; libsndfile reads on as if nothing was amiss."""
    if file.format == "OGG":
        with path.open("rb") as raw:
            raw.seek(max(0, path.stat().st_size - OGG_PAGE))
            tail = raw.read()
        page = tail[max(0, tail.rfind(b"OggS")) :]
        whole = len(page) >= 27 and len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]])
        return not (whole and page[5] & LAST_PAGE)
    return any(int(there) < int(claimed) < UNKNOWN for claimed, there in CUT_SHORT.findall(file.extra_info))
