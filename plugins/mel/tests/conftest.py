"""Every implementation, called as a program calls it: through a runtime that serves nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import assay
import numpy as np
import pytest
from assay_mel import MEL, reference

NAMES = ["reference", "numpy", "frames", "frame", "librosa", "asrfront"]
SPEECH = Path(__file__).parents[3] / "examples" / "speech.flac"


def _runtime(name: str, **mel: Any) -> assay.Runtime:
    config = {"ops": {"mel": {"require": name, **mel}}, "proof": {"mode": "off"}, "threads": 1}
    return assay.Runtime(config, ops=["mel"])


@pytest.fixture(scope="session")
def runtime() -> Any:
    """Opens a runtime that serves mel by one implementation, unproven: the tests are the proof here."""
    return _runtime


@pytest.fixture(scope="session", params=NAMES)
def mel(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The operation bound to one implementation."""
    with _runtime(request.param) as opened:
        yield opened.op(MEL)


@pytest.fixture
def offer() -> Iterator[Any]:
    """Offers one kernel for mel, lets it prove itself, and gives its candidate."""
    opened = []

    def offer(kernel: Any, **capabilities: Any) -> assay.Candidate:
        implementation = assay.Implementation(
            op="mel", name="offered", kernel=kernel, capabilities=assay.Capabilities(**capabilities)
        )
        plugin = SimpleNamespace(
            assay_operations=assay.hookimpl(lambda: [MEL]),
            assay_implementations=assay.hookimpl(lambda: [implementation]),
        )
        config = {
            "accuracy": capabilities.get("accuracy", "exact"),
            "plugins": {"autoload": False},
            "proof": {"mode": "always", "timeout_s": 300},
        }
        opened.append(assay.Runtime(config, plugins=[plugin], ops=["mel"]))
        return opened[-1].explain("mel")["offered"]

    yield offer
    for one in opened:
        one.close()


@pytest.fixture(scope="session")
def speech() -> np.ndarray:
    """The demo recording, mono at 16 kHz."""
    from assay_mel.audio import read

    (audio,) = read(SPEECH)
    return audio


@pytest.fixture(scope="session")
def draw() -> Any:
    """Draws a signal in float32."""

    def draw(signal: Any, samples: int, seed: int = 0) -> np.ndarray:
        return signal(np.random.default_rng(seed), samples).astype(np.float32)

    return draw


@pytest.fixture(scope="session")
def check() -> Any:
    """Holds features against the float64 reference within the contract's exact tolerance."""
    return _check


def _check(got: np.ndarray, audio: np.ndarray, kind: str = "", n_mels: int = 80, center: bool = True) -> None:
    expected = reference.mel(audio, n_mels=n_mels, center=center)
    assert got.shape == expected.shape
    assert got.dtype == np.float32
    params = {"n_mels": n_mels, "center": center}
    limit = MEL.tolerance(kind, (audio,), params, expected, assay.Accuracy.EXACT)
    error = np.abs(got - expected)
    assert (error <= limit.max_abs).all(), f"off by {error.max()}"
    if limit.rms is not None:
        assert np.sqrt(np.mean(error**2)) <= limit.rms
