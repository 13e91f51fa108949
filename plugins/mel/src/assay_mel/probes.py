"""The requests of a proof: drawn anew each time, and meant to separate wrong features from right ones."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from assay import Domain, Probe
from assay.contract.operation import Array

from assay_mel import signals
from assay_mel.definition import HOP, N_FFT, N_MELS, PCM16, SAMPLE_RATE, least_samples
from assay_mel.signals import Rng, Signal

CONTENTS = {
    signals.noise: "noise",
    signals.quiet: "noise",
    signals.faint: "noise",
    signals.silence: "noise",
    signals.click: "speech",
    signals.edge_clicks: "speech",
    signals.loud_end: "speech",
    signals.loud_start: "speech",
    signals.speech: "speech",
    signals.chirp: "speech",
    signals.square: "speech",
    signals.tone: "tone",
    signals.half_tone: "tone",
}
"""Each kind of signal and the tolerance that it is held to. Loud beside silent is no noise: a transform may
take two frames at once, and leave a trace of the one in the other."""

TILES = (8, 16, 32, 64, 100)
"""Numbers of frames that kernels work on at a time."""

LONG = (5, 31)
"""Seconds of the long recordings, each a little less."""

PRIMES = (211, 401, 1_009, 3_203, 9_973)
"""Numbers of samples that no tile divides."""


def probes(rng: Rng, domain: Domain) -> Iterator[Probe]:
    """Yield the requests of a proof.

    Every declared dtype, number of bands and kind of framing meets every kind of signal.
    Lengths go round the combinations in an order drawn anew.
    """
    combinations = [
        (n_mels, center)
        for n_mels in domain.values("n_mels", N_MELS)
        for center in domain.values("center", (True, False))
    ]
    for dtype in domain.dtypes:
        # Small and telling: noise at both ends shows the padding, silence within shows the floor.
        n_mels, center = combinations[0]
        first = signals.noise(rng, _samples(rng, 24, center))
        first[1_600:2_400] = 0.0
        yield _probe("golden", first, dtype, n_mels, center, "noise")

        for n_mels, center in combinations:
            for signal, kind in CONTENTS.items():
                samples = _samples(rng, int(rng.integers(9, 28)), center)
                yield _probe(signal.__name__, signal(rng, samples), dtype, n_mels, center, kind)

        order = [combinations[i] for i in rng.permutation(len(combinations))]
        for turn, (n_mels, center) in enumerate(order):
            for samples in _lengths(rng, center)[turn :: len(order)]:
                yield _probe("length", signals.noise(rng, samples), dtype, n_mels, center, "noise")

        for turn, seconds in enumerate(LONG):
            n_mels, center = order[turn % len(order)]
            samples = seconds * SAMPLE_RATE - int(rng.integers(1, SAMPLE_RATE))
            yield _probe("long", signals.loud_end(rng, samples), dtype, n_mels, center, "speech")


def standard(rng: Rng) -> Probe:
    """The workload on which implementations are timed: ten seconds of noise."""
    audio = signals.noise(rng, 10 * SAMPLE_RATE)
    return _probe("standard", audio, "float32", N_MELS[0], True, "noise")


def _lengths(rng: Rng, center: bool) -> list[int]:
    """Numbers of samples: the shortest, tile edges with odd remainders, primes, and some drawn."""
    near_tiles = [tile + by for tile in TILES for by in (-1, 0, 1)]
    frames = [1, 2, 3, *near_tiles, *map(int, rng.integers(3, 90, 5))]
    samples = [_samples(rng, count, center) for count in frames]
    return [n for n in (least_samples(center), N_FFT, *PRIMES, *samples) if n >= least_samples(center)]


def _samples(rng: Rng, frames: int, center: bool) -> int:
    """A number of samples that gives so many frames, with a remainder that is not always 0."""
    least = HOP * frames if center else HOP * (frames - 1) + N_FFT
    return max(least_samples(center), least + int(rng.integers(HOP)))


def _probe(name: str, audio: Signal, dtype: str, n_mels: int, center: bool, kind: str) -> Probe:
    where = f"{audio.size} samples, {n_mels} mels, center={center}, {dtype}"
    return Probe(f"{name}: {where}", (_as(audio, dtype),), {"n_mels": n_mels, "center": center}, kind)


def _as(audio: Signal, dtype: str) -> Array:
    if dtype == "int16":
        return np.clip(np.round(audio * PCM16), -PCM16, PCM16 - 1).astype(np.int16)
    return audio.astype(dtype)
