"""The picture of features."""

from __future__ import annotations

import matplotlib
import matplotlib.figure
import numpy as np
import pytest
from assay_mel import MEL, reference
from assay_mel.plot import plot


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved."""
    figures = []
    save = matplotlib.figure.Figure.savefig

    def keep(figure, *args, **kwargs):
        figures.append(figure)
        return save(figure, *args, **kwargs)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", keep)
    return figures


@pytest.mark.parametrize("n_mels", [80, 128])
def test_axes_are_labelled(tmp_path, drawn, speech, n_mels):
    """Title, seconds, bands, Hz, and what the colours mean."""
    plot(reference.mel(speech, n_mels=n_mels, center=True), tmp_path / "a.png", title="Speech")

    (figure,) = drawn
    axes, bar = figure.axes
    assert axes.get_title() == "Speech"
    assert axes.get_xlabel() == "time (s)"
    assert axes.get_ylabel() == "mel band"
    assert "log10 power" in bar.get_ylabel()
    (hertz,) = axes.child_axes
    assert hertz.get_ylabel() == "approximate frequency (Hz)"
    assert axes.get_xlim() == (0.0, pytest.approx(speech.size / 16_000, abs=0.01))


@pytest.mark.parametrize("frames", [1, 2, 100, 2_000, 2_001, 360_000])
def test_any_length(tmp_path, frames):
    """One frame or an hour of them."""
    features = np.linspace(-1, 1, 80 * frames, dtype=np.float32).reshape(80, frames)
    path = tmp_path / "a.png"

    plot(features, path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size < 1e6


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_formats(tmp_path, suffix):
    """By the name's suffix, silence included."""
    path = tmp_path / f"a.{suffix}"

    plot(np.full((80, 50), -1.5, np.float32), path)
    assert path.stat().st_size > 1_000


def test_no_global_state(tmp_path):
    """The caller's own pyplot is left alone: a server may draw from any thread."""
    before = matplotlib.get_backend()
    plot(np.zeros((80, 50), np.float32), tmp_path / "a.png")

    assert matplotlib.get_backend() == before


def test_the_operation_names_it():
    """The command line finds the plot there."""
    assert MEL.plot == f"{plot.__module__}:{plot.__name__}"
