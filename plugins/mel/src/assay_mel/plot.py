"""Draws features as a spectrogram."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from assay_mel.definition import HOP, SAMPLE_RATE
from assay_mel.filters import edges

try:
    from matplotlib.figure import Figure
except ImportError as error:
    raise ImportError(
        f"drawing needs {error.name}: pip install 'assay-mel[plot]'", name=error.name
    ) from error

COLUMNS = 2000
"""More than a picture has pixels for: longer recordings are drawn by the loudest of neighbouring frames."""
LABELLED_HZ = (100, 250, 500, 1000, 2000, 4000, 8000)


def plot(features: NDArray[np.float32], path: str | Path, *, title: str = "Log-mel features") -> None:
    """Draw features over time and mel band.

    Args:
        features: Shape (n_mels, frames).
        path: Where to write the picture; the suffix says in which format (.png, .pdf, .svg).
        title: What stands above it.
    """
    n_mels, frames = features.shape
    seconds = frames * HOP / SAMPLE_RATE
    figure = Figure(figsize=(11, 4.5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(
        _narrowed(features),
        aspect="auto",
        origin="lower",
        cmap="magma",
        interpolation="nearest",
        extent=(0.0, seconds, -0.5, n_mels - 0.5),
    )
    axes.set_title(title)
    axes.set_xlabel("time (s)")
    axes.set_ylabel("mel band")
    hertz = axes.secondary_yaxis("right")
    hertz.set_yticks(_bands(n_mels), [f"{hz:,}" for hz in LABELLED_HZ])
    hertz.set_ylabel("approximate frequency (Hz)")
    bar = figure.colorbar(image, ax=axes, pad=0.02)
    bar.set_label("feature: (log10 power + 4) / 4")
    figure.savefig(path)


def _narrowed(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """At most COLUMNS columns: the maximum of each group of frames."""
    frames = features.shape[1]
    if frames <= COLUMNS:
        return features
    starts = np.arange(COLUMNS) * frames // COLUMNS
    narrowed: NDArray[np.float32] = np.maximum.reduceat(features, starts, axis=1)
    return narrowed


def _bands(n_mels: int) -> NDArray[np.float64]:
    """Where the labelled frequencies lie among the bands, by the bands' peaks."""
    return np.interp(LABELLED_HZ, edges(n_mels)[1:-1], np.arange(n_mels))
