"""The operation "mel": Whisper's log-mel features of a recording."""

from __future__ import annotations

from typing import Any

import assay
import numpy as np
from assay import Accuracy, Arrays, Params, Spec, Tolerance
from numpy.typing import NDArray

from assay_mel import probes, reference
from assay_mel.definition import HOP, N_FFT, N_MELS, PCM16, SAMPLE_RATE, count_frames, least_samples
from assay_mel.items import split

DTYPES = ("float32", "int16", "float64")


def mel(
    audio: NDArray[Any], *, n_mels: int = 80, center: bool = True, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Whisper's log-mel features of a recording.

    A periodic Hann window of 400 points (25 ms) every 160 samples (10 ms), power at 201 frequencies,
    mel bands from 0 to 8000 Hz (Slaney scale and norm), log10 of at least 1e-10, floor at the
    recording's maximum minus 8, then ``(x + 4) / 4``. Silence gives -1.5 everywhere.
    The definition is ``log_mel_spectrogram`` in ``audio.py`` of openai-whisper.

    Args:
        audio: Mono at 16 kHz in [-1, 1], shape (samples,), float32. int16 is converted (/ 32768),
            float64 cast. Every sample is finite.
        n_mels: Mel bands: 80, or 128 for Whisper large-v3.
        center: True: frames are centred on multiples of 160 samples and the ends are reflected:
            samples // 160 frames, at least 201 samples.
            False: frames inside the signal only: (samples - 400) // 160 + 1, at least 400 samples.
        out: Where to put the result: float32, shape (n_mels, frames).

    Returns:
        float32, shape (n_mels, frames).

    Raises:
        assay.InvalidInput: The audio's rank, dtype or length, or a parameter, is not one of these,
            or a sample is not finite.
    """
    raise NotImplementedError("this is the signature; call it through assay.Runtime().op('mel')")


def infer(audio: NDArray[Any], *, n_mels: int, center: bool) -> Spec:
    """The shape and dtype of the features; what does not fit the operation is refused."""
    if not isinstance(audio, np.ndarray):
        raise assay.InvalidInput(
            f"mel: audio is a {type(audio).__name__}; expected a numpy array of shape (samples,), "
            f"{', '.join(DTYPES)}"
        )
    if audio.ndim != 1:
        raise assay.InvalidInput(
            f"mel: audio has shape {audio.shape}; expected (samples,), one channel: "
            "mix channels down first (their mean), and pass the recordings of a batch one by one"
        )
    if audio.dtype.name not in DTYPES:
        raise assay.InvalidInput(
            f"mel: audio is {audio.dtype}; accepted are float32 in [-1, 1], float64 (cast) "
            f"and int16 (divided by {PCM16})"
        )
    if isinstance(n_mels, bool) or not isinstance(n_mels, (int, np.integer)) or n_mels not in N_MELS:
        raise assay.InvalidInput(f"mel: n_mels is {n_mels!r}; expected {N_MELS[0]} or {N_MELS[1]}")
    if not isinstance(center, bool):
        raise assay.InvalidInput(f"mel: center is {center!r}; expected True or False")
    if audio.size < least_samples(center):
        found = "is empty" if audio.size == 0 else f"has {audio.size} samples"
        why = "reflection at the ends needs them" if center else f"a frame is {N_FFT} samples"
        raise assay.InvalidInput(
            f"mel: audio {found}; with center={center} at least {least_samples(center)} are needed ({why})"
        )
    return Spec((n_mels, count_frames(audio.size, center)), np.dtype(np.float32))


def convert(audio: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """The same signal in another dtype: int16 is divided by 32768 (exact in float32), floats are cast."""
    if audio.dtype == np.int16:
        # Multiplied by a power of two: one pass, and the same numbers as a division.
        scaled: NDArray[Any] = np.multiply(audio, dtype.type(1.0 / PCM16), dtype=dtype)
        return scaled
    return audio.astype(dtype)


EXACT = {
    "noise": Tolerance(5e-6),
    "speech": Tolerance(6e-5, rms=6e-6),
    "tone": Tolerance(1.5e-4, rms=1e-5),
    # A real request can be any of these: what is admitted for the hardest is admitted for it.
    "": Tolerance(1.5e-4, rms=1e-5),
}
APPROXIMATE = Tolerance(5e-2, rms=1e-2)

RESOLUTION = 1e-7
"""What float32 resolves in a frame's loudest band, in features: noise of 5e-7 of the peak amplitude, some
four times what good transforms leave. It weighs ten times more for each factor of ten in amplitude below
the peak, so a band in which the signal nearly cancels by chance is no evidence against a kernel."""


def tolerance(
    kind: str, inputs: Arrays, params: Params, expected: NDArray[np.float64], accuracy: Accuracy
) -> Tolerance:
    """The admitted error in features, by the kind of signal; never less than float32 resolves."""
    if accuracy is not Accuracy.EXACT:
        return APPROXIMATE
    admitted = EXACT[kind]
    (audio,) = inputs
    assert audio is not None
    bands = 0 if audio.ndim == 1 else 1  # of a request: (n_mels, frames); of items: (n, n_mels)
    peak = expected.max(axis=bands, keepdims=True)
    resolved = RESOLUTION * 10.0 ** (2.0 * (peak - expected))
    rms = admitted.rms and max(admitted.rms, 0.1 * float(np.sqrt(np.mean(resolved**2))))
    return Tolerance(np.maximum(admitted.max_abs, resolved), rms)


def audio_seconds(inputs: Arrays, params: Params) -> float:
    """The work in a request: its length in seconds."""
    (audio,) = inputs
    assert audio is not None
    return audio.size / SAMPLE_RATE


MEL = assay.Operation(
    name="mel",
    version="1",
    signature=mel,
    inputs=(assay.Input("audio", frozenset(DTYPES), finite=True),),
    infer=infer,
    reference=reference.mel,
    probes=probes.probes,
    tolerance=tolerance,
    standard=probes.standard,
    presets={"latency": 10, "balanced": 100, "throughput": 1000, "single": 1},
    items=assay.ItemForm(split=split, reference=reference.log_mel_frames, settle=reference.settle),
    converts={"int16": ("float32", "float64"), "float64": ("float32",)},
    convert=convert,
    work=audio_seconds,
    work_unit="audio seconds",
    reader="assay_mel.audio:read",
    plot="assay_mel.plot:plot",
    description=f"Whisper's log-mel features: {N_FFT}-point Hann, hop {HOP}, 80 or 128 Slaney bands",
)
