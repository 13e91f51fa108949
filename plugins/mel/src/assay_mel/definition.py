"""The constants of Whisper's log-mel features (``audio.py`` of openai-whisper)."""

from __future__ import annotations

SAMPLE_RATE = 16_000
"""Samples per second."""
N_FFT = 400
"""Samples under one frame: 25 ms."""
HOP = 160
"""Samples from one frame to the next: 10 ms."""
PAD = N_FFT // 2
"""Samples reflected at either end when frames are centred."""
N_BINS = N_FFT // 2 + 1
"""Frequencies of one frame, 40 Hz apart, from 0 to 8000 Hz."""
N_MELS = (80, 128)
"""The numbers of mel bands that Whisper's models were trained on."""
FLOOR = 1e-10
"""The smallest power that is told from silence."""
DECADES = 8.0
"""How far below the recording's maximum the features reach, in powers of ten."""
PCM16 = 32_768
"""What an int16 sample is divided by."""


def count_frames(samples: int, center: bool) -> int:
    """How many frames a signal has.

    Centred, the transform's last frame is dropped, as Whisper does; otherwise only frames
    that lie inside the signal count.
    """
    return samples // HOP if center else (samples - N_FFT) // HOP + 1


def least_samples(center: bool) -> int:
    """The shortest signal that the definition covers: reflection needs one sample more than it reflects."""
    return PAD + 1 if center else N_FFT
