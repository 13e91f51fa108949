"""Test signals: float64 in [-1, 1] at 16 kHz, drawn from a generator."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from assay_mel.definition import SAMPLE_RATE

Signal = NDArray[np.float64]
Rng = np.random.Generator


def noise(rng: Rng, samples: int) -> Signal:
    """White noise somewhere between quiet and loud."""
    signal = rng.standard_normal(samples).clip(-4.0, 4.0)
    signal *= rng.uniform(0.05, 0.25)
    return signal


def quiet(rng: Rng, samples: int) -> Signal:
    """Noise around 1e-4: four steps of an int16, below the smallest normal half-precision power."""
    return rng.uniform(0.8e-4, 2e-4) * rng.standard_normal(samples)


def faint(rng: Rng, samples: int) -> Signal:
    """Noise around the 1e-10 below which power is not told from silence."""
    return rng.uniform(3e-6, 8e-6) * rng.standard_normal(samples)


def silence(rng: Rng, samples: int) -> Signal:
    """Nothing."""
    return np.zeros(samples)


def tone(rng: Rng, samples: int) -> Signal:
    """One frequency, nearly full scale: most bins are silent, so that the floor decides them."""
    hz, phase = rng.uniform(60.0, 7_800.0), rng.uniform(0.0, 2.0 * np.pi)
    signal: Signal = np.sin(2.0 * np.pi * hz / SAMPLE_RATE * np.arange(samples) + phase)
    signal *= rng.uniform(0.8, 0.99)
    return signal


def half_tone(rng: Rng, samples: int) -> Signal:
    """A tone, then silence: the floor of the silent frames comes from the loud ones."""
    signal = tone(rng, samples)
    signal[samples // 2 :] = 0.0
    return signal


def chirp(rng: Rng, samples: int) -> Signal:
    """A sweep through the bands in noise 50 dB below it."""
    low, high = rng.uniform(30.0, 200.0), rng.uniform(6_000.0, 7_900.0)
    hz = np.linspace(low, high, samples)
    sweep: Signal = np.sin(2.0 * np.pi * np.cumsum(hz) / SAMPLE_RATE)
    sweep *= rng.uniform(0.4, 0.9)
    sweep += 2e-3 * rng.standard_normal(samples)
    return sweep


def speech(rng: Rng, samples: int) -> Signal:
    """Harmonics of a voice in syllables, with pauses, over the noise of a quiet room."""
    time = np.arange(samples) / SAMPLE_RATE
    pitch = rng.uniform(90.0, 220.0) * (1.0 + 0.1 * np.sin(2.0 * np.pi * rng.uniform(1.0, 3.0) * time))
    turn = 2.0 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    harmonics = np.arange(1, 16)
    loudness = rng.uniform(0.2, 1.0, harmonics.size) / harmonics
    voice = loudness @ np.sin(np.outer(harmonics, turn))
    syllables = np.maximum(0.0, np.sin(2.0 * np.pi * rng.uniform(3.0, 6.0) * time + rng.uniform(0.0, 6.0)))
    signal: Signal = 0.5 * voice / loudness.sum() * syllables
    signal += 1e-3 * rng.standard_normal(samples)
    return signal


def square(rng: Rng, samples: int) -> Signal:
    """A square wave at full scale, both ends of the range included."""
    half = int(rng.integers(7, 90))
    return np.where(np.arange(samples) // half % 2 == 0, 1.0, -1.0)


def click(rng: Rng, samples: int) -> Signal:
    """One sample in silence."""
    signal = np.zeros(samples)
    signal[int(rng.integers(samples))] = rng.uniform(0.5, 1.0)
    return signal


def edge_clicks(rng: Rng, samples: int) -> Signal:
    """One click near the very start, one near the very end: where padding and the last frame decide."""
    signal = np.zeros(samples)
    signal[int(rng.integers(0, 40))] = rng.uniform(0.5, 1.0)
    signal[-1 - int(rng.integers(0, 40))] = -rng.uniform(0.5, 1.0)
    return signal


def loud_end(rng: Rng, samples: int) -> Signal:
    """Silence, soft noise, then loud noise at the very end: the maximum, and so the floor, comes last."""
    signal = noise(rng, samples)
    signal[: samples // 3] = 0.0
    signal[samples // 3 : -min(samples // 4, SAMPLE_RATE)] *= 1e-3
    return signal


def loud_start(rng: Rng, samples: int) -> Signal:
    """The same turned round: what follows is floored at a maximum that is long past."""
    return loud_end(rng, samples)[::-1].copy()
