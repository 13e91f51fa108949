"""What a proof says about a design that is wrong: in words that its owner can act on."""

import npus
import numpy as np
import pytest
from assay.negotiation.compare import diagnose


def stale():
    """A design that is one call late."""
    kept = {}

    def spoil(codes, scales):
        before = kept.get(codes.shape)
        kept[codes.shape] = codes.copy(), scales.copy()
        if before is not None:
            codes[:], scales[:] = before

    return spoil


def zeros(codes, scales):
    codes[:] = 0


def constant(codes, scales):
    codes[:], scales[:] = 77, 0.5


def half_scale(codes, scales):
    scales *= np.float32(0.5)


def negated(codes, scales):
    scales *= np.float32(-1)


def lost_scales(codes, scales):
    scales[:] = 1 / 32767


def swapped(codes, scales):
    if len(codes) > 1:
        codes[[0, 1]], scales[[0, 1]] = codes[[1, 0]], scales[[1, 0]]


def repeated(codes, scales):
    codes[1:], scales[1:] = codes[0], scales[0]


def offset(codes, scales):
    codes[:] = codes // 2 + 3000
    scales *= np.float32(2)


def noise(codes, scales):
    codes[:] = np.random.default_rng().integers(-30_000, 30_000, codes.shape)


def shifted(codes, scales):
    codes[:] = np.roll(codes, 1, axis=1)


WORDS = {
    zeros: "zeros (the device gave nothing but zeros)",
    constant: "a constant (38.5)",
    stale(): "a stale buffer: the result of the call before",
    half_scale: "a wrong or missing scale: 0.5 times the expected values",
    negated: "a wrong or missing scale: -1 times the expected values",
    lost_scales: "a wrong or missing scale: each row has a factor",
    swapped: "swapped rows",
    repeated: "repeated rows",
    offset: "an offset",  # which each row has, as can be seen unless one row is far louder than the others
    noise: "noise: it has nothing to do with the expected values",
    shifted: "a shift by 1 along the last axis",
}


@pytest.mark.parametrize("spoil", WORDS, ids=lambda spoil: getattr(spoil, "__name__", "stale"))
def test_words(tmp_path, spoil):
    """Each way of being wrong has its own."""
    rig = npus.Rig(tmp_path)

    def design(codes, scales, result, result_scales):
        npus.on_device(codes, scales, result, result_scales)
        spoil(result.view(np.int16).reshape(-1, npus.WIDTH), result_scales.view(np.float32))

    rig.sim.register("flip", design)
    with rig.runtime(proof={"mode": "always"}) as rt:
        why = rt.explain("flip")["xrt-batch"].reasons[-1]
    assert why.code == "inaccurate"
    assert f"it looks like {WORDS[spoil]}" in why.message


def test_a_manifest_that_forgets_a_parameter(tmp_path):
    """The design is right, and never hears of the request's factor."""
    rig = npus.Rig(tmp_path)
    npus.change(rig.batch, 'factor = "factor"', "")
    with rig.runtime(proof={"mode": "always"}) as rt:
        why = rt.explain("flip")["xrt-batch"].reasons[-1]
    assert "factor=-2.5" in why.message
    assert "it looks like" in why.message


def test_noise_is_recognised_in_small_results():
    """A few dozen numbers, most of them far smaller than the rest, correlate with anything by chance."""
    for seed in range(300):
        wrong = np.random.default_rng(seed).integers(-30_000, 30_000, (3, npus.WIDTH)).astype(float)
        assert diagnose(wrong, npus.rows(3, seed).astype(float)).startswith("noise"), seed
