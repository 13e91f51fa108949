"""What the probes cover, and what they cost."""

from __future__ import annotations

from types import SimpleNamespace

import assay
import numpy as np
import pytest
from assay_mel import MEL, reference
from assay_mel.backends import asrfront, librosa, numpy
from assay_mel.probes import CONTENTS, LONG, probes


def domain(dtypes=("float32",), **params):
    return SimpleNamespace(dtypes=dtypes, values=lambda name, usual: params.get(name, usual))


def drawn(seed=0, **options):
    return list(probes(np.random.default_rng(seed), domain(**options)))


def test_every_signal_meets_every_declared_combination():
    """dtype, number of bands, framing."""
    dtypes = ("float32", "float64", "int16")
    met = {
        (probe.name.split(":")[0], probe.inputs[0].dtype.name, *probe.params.values())
        for probe in drawn(dtypes=dtypes)
    }

    for signal in CONTENTS:
        for dtype in dtypes:
            for n_mels in (80, 128):
                for center in (True, False):
                    assert (signal.__name__, dtype, n_mels, center) in met


def test_a_narrow_domain_is_kept():
    """Nothing outside of what was declared, and all lengths still within it."""
    narrow = drawn(n_mels=(128,), center=(True,))

    assert {tuple(probe.params.values()) for probe in narrow} == {(128, True)}
    frames = {probe.inputs[0].size // 160 for probe in narrow}
    assert {7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 99, 100, 101} <= frames
    assert max(frames) > 3000
    assert {201, 400} <= {probe.inputs[0].size for probe in narrow}


@pytest.mark.parametrize("seed", range(5))
def test_every_probe_is_a_request(seed):
    """The operation accepts it, its kind has a tolerance, its values are in range, its name is its own."""
    names = set()
    for probe in drawn(seed, dtypes=("float32", "int16")):
        (audio,) = probe.inputs
        spec = MEL.infer(audio, **probe.params)
        expected = np.zeros(spec.shape)
        MEL.tolerance(probe.kind, probe.inputs, probe.params, expected, assay.Accuracy.EXACT)
        assert audio.flags.writeable
        assert audio.dtype == np.int16 or np.abs(audio).max() <= 1.0
        names.add(probe.name)
    assert len(names) > 80


def test_seeds_matter():
    """Another seed, other data and lengths; the same seed, the same."""
    one, same, other = drawn(1), drawn(1), drawn(2)

    for a, b in zip(one, same, strict=True):
        np.testing.assert_array_equal(a.inputs[0], b.inputs[0])
    assert [probe.name for probe in one] != [probe.name for probe in other]
    noise = [p.inputs[0] for p in (one[0], other[0])]
    assert not np.array_equal(noise[0][:1000], noise[1][:1000])


def test_all_are_short_but_the_long_ones():
    """A proof takes a fraction of a second: nearly all of its audio is in the two long recordings."""
    seconds = sorted(probe.inputs[0].size / 16_000 for probe in drawn())

    assert sum(seconds[: -len(LONG)]) < 25
    assert seconds[-1] < 31


def test_the_first_is_small_and_telling():
    """Noise at both ends, silence within, well below a second."""
    first = drawn()[0]
    (audio,) = first.inputs

    assert audio.size < 8_000
    assert audio[:400].any()
    assert audio[-400:].any()
    expected = reference.mel(audio, **first.params)
    assert np.ptp(expected) == 2.0  # the floor, eight decades down, is reached


@pytest.mark.parametrize("kernel", [numpy.mel, librosa.mel, asrfront.mel], ids=lambda k: k.__module__)
@pytest.mark.parametrize("seed", range(10, 16))
def test_right_kernels_pass_with_room(kernel, seed):
    """Neither float64 nor float32 transforms come near the limits, whatever is drawn."""
    for probe in drawn(seed, center=(True,)):
        (audio,) = probe.inputs
        expected = MEL.expect(probe)
        out = {} if kernel is asrfront.mel else {"out": np.empty(expected.shape, np.float32)}
        got = kernel(audio, **probe.params, **out)
        limit = MEL.tolerance(probe.kind, probe.inputs, probe.params, expected, assay.Accuracy.EXACT)
        error = np.abs(got - expected)
        assert (error / limit.max_abs).max() < 0.75, probe.name
        if limit.rms is not None:
            assert np.sqrt(np.mean(error**2)) < 0.75 * limit.rms, probe.name
