"""The device's log-mel: bit for bit the integer arithmetic it claims, and right at every level."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from assay.testing import simxrt
from assay_mel import device, reference, signals
from assay_mel.filters import mel_filters
from numpy.lib.stride_tricks import sliding_window_view

Frames = npt.NDArray[Any]

SIGNALS = [
    signals.noise,
    signals.quiet,
    signals.silence,
    signals.click,
    signals.loud_start,
    signals.loud_end,
    signals.speech,
    signals.chirp,
    signals.square,
    signals.tone,
    signals.half_tone,
]


def run(samples: Frames, scales: Frames, n_mels: int) -> npt.NDArray[np.int8]:
    """Run the device function over bytes."""
    codes = np.empty((len(samples), n_mels), np.int8)
    device.log_mel(*(a.view(np.uint8).reshape(-1) for a in (samples, scales, codes)))
    return codes


def scalar(samples: list[int], scale: float, n_mels: int) -> list[int]:
    """One frame in Python's integers, from the description of the arithmetic."""

    def shift(x: int, bits: int) -> int:
        return (x + (1 << (bits - 1))) >> bits

    def log2(mantissa_and_exponent: tuple[int, int]) -> int:
        mantissa, exponent = mantissa_and_exponent
        return exponent * 1024 + round(1024 * math.log2(1 + (mantissa + 0.5) / 256))

    def parts(x: int) -> tuple[int, int]:
        exponent = x.bit_length() - 1
        leading = x >> (exponent - 8) if exponent >= 8 else x << (8 - exponent)
        return leading & 255, exponent

    power = []
    for k in range(201):
        real = imaginary = 0
        for n, x in enumerate(samples):
            window = 0.5 - 0.5 * math.cos(2 * math.pi * min(n, 400 - n) / 400)
            angle = 2 * math.pi * (min(n, 400 - n) * k % 400) / 400
            real += x * round(32767 * window * math.cos(angle))
            imaginary += (x if n <= 200 else -x) * round(32767 * window * math.sin(angle))
        power.append(shift(shift(real, 12) ** 2 + shift(imaginary, 12) ** 2, 5))

    (bits,) = struct.unpack("<I", struct.pack("<f", scale))
    level = 2 * log2((bits >> 15 & 255, (bits >> 23) - 127))
    step = round(2**24 * math.log10(2) / 1024 / (10 / 196))
    codes = []
    for weights in mel_filters(n_mels).tolist():
        largest = max(weights)
        total = sum(p * round(32767 * w / largest) for p, w in zip(power, weights, strict=True))
        band = round(1024 * (math.log2(largest / 32767) + 5 + 24 - 2 * math.log2(32767)))
        code = shift((log2(parts(total)) + band + level) * step, 24) + 68 if total else -128
        codes.append(min(127, max(-128, code)))
    return codes


CASES: dict[str, Callable[[np.random.Generator], Frames]] = {
    "noise": lambda rng: rng.integers(-32768, 32768, 400),
    "faint": lambda rng: rng.integers(-3, 4, 400),
    "extremes": lambda rng: np.where(rng.random(400) < 0.5, 32767, -32768),
    "tone": lambda rng: np.rint(32767 * np.sin(0.3 * np.arange(400))),
    "lowest": lambda rng: np.full(400, -32768),
    "click": lambda rng: np.where(np.arange(400) == rng.integers(400), 32767, 0),
    "one": lambda rng: np.where(np.arange(400) == 200, 1, 0),
    "silence": lambda rng: np.zeros(400),
}


@pytest.mark.parametrize("n_mels", [80, 128])
def test_bit_exact(n_mels: int) -> None:
    """Every code is that of a model in Python's integers, at the edges of the arithmetic too."""
    rng = np.random.default_rng(n_mels)
    samples = np.array([make(rng) for make in CASES.values()], np.int16)
    scales = (10.0 ** rng.uniform(-9, 0, len(samples))).astype(np.float32)
    scales[0] = 1 / 32767
    expected = [scalar(s, float(c), n_mels) for s, c in zip(samples.tolist(), scales, strict=True)]
    assert run(samples, scales, n_mels).tolist() == expected


def test_no_sum_overflows() -> None:
    """The largest sums that any samples can make stay below 2^63 and within what float64 holds exactly."""
    for n_mels in (80, 128):
        tables = device._tables(n_mels)
        reach = max(np.abs(t).sum(axis=0).max() for t in (tables.cosine, tables.sine)) * 2 * 32768
        assert reach < 2**53
        # All bins together hold the energy of the windowed samples (Parseval); rounding adds less than 1 %.
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
        energy = 1.01 * 400 * np.square(window * 32768.0 * 32768.0).sum()
        power = energy / 4**device.SPECTRUM_SHIFT / 2**device.POWER_SHIFT
        assert power * tables.weights.max() < 2**63
        assert power / 2**22 * tables.weights.max() < 2**53


@pytest.mark.parametrize("n_mels", [80, 128])
@pytest.mark.parametrize("level", [1.0, 1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("signal", SIGNALS)
def test_right_at_every_level(signal: Callable[..., Any], level: float, n_mels: int) -> None:
    """Features are within 5e-2, and 1e-2 rms, of float64 for whole recordings and for single frames."""
    audio = signal(np.random.default_rng(7), 400 + 39 * 160).astype(np.float64) * level
    frames = sliding_window_view(audio, 400)[::160]
    got = device.dequantise(run(*device.quantise(frames), n_mels)).astype(np.float64)
    expected = reference.log_mel_frames(frames, n_mels=n_mels)
    for make in (reference.normalise, reference.settle):
        error = make(got) - make(expected)
        assert np.abs(error).max() < 5e-2
        assert np.sqrt(np.mean(error**2)) < 1e-2


def test_silence_is_the_floor() -> None:
    """Silence is -10 exactly, whatever the scale says."""
    for scale in (1e-30, 1.0):
        codes = run(np.zeros((3, 400), np.int16), np.full(3, scale, np.float32), 80)
        assert set(device.dequantise(codes).ravel().tolist()) == {-10.0}


def test_one_scale_for_all() -> None:
    """A single scale serves all frames of a block."""
    samples = np.random.default_rng(3).integers(-9000, 9000, (70, 400)).astype(np.int16)
    scale = np.array([3e-5], np.float32)
    assert np.array_equal(run(samples, scale, 80), run(samples, np.repeat(scale, 70), 80))


def test_a_block_is_its_frames() -> None:
    """Frames give the same codes alone and in a block of any size."""
    rng = np.random.default_rng(4)
    samples = rng.integers(-32768, 32768, (125, 400)).astype(np.int16)
    scales = rng.uniform(1e-6, 1e-4, 125).astype(np.float32)
    whole = run(samples, scales, 80)
    for size in (1, 12, 59, 60, 61, 100):
        assert np.array_equal(run(samples[:size].copy(), scales[:size].copy(), 80), whole[:size])


def test_neighbours_in_one_block_keep_their_precision() -> None:
    """A frame 120 dB below its neighbour is as right as alone, since each has a scale of its own."""
    frames = np.random.default_rng(5).normal(size=(2, 400)) * [[1.0], [1e-6]]
    frames[1] *= 1 + np.sin(np.arange(400))
    got = device.dequantise(run(*device.quantise(frames), 80)).astype(np.float64)
    error = reference.settle(got) - reference.settle(reference.log_mel_frames(frames, n_mels=80))
    assert np.abs(error).max() < 5e-2


def test_a_design_on_the_stand_in(tmp_path: Any) -> None:
    """The function runs as a kernel of a simulated NPU, found by its name in the xclbin."""
    sim = simxrt.Simulator()
    px = sim.module
    program = "assay_mel.device:log_mel"
    path = sim.write_xclbin(tmp_path / "mel.xclbin", [simxrt.KernelImage(program, items=10)])
    code = np.fromfile(sim.write_instructions(tmp_path / "mel.bin", program), np.uint32)
    npu = px.device(0)
    kernel = px.kernel(px.hw_context(npu, npu.register_xclbin(px.xclbin(str(path)))), "MLIR_AIE")
    launch = px.run(kernel)

    def argument(index: int, data: Frames, flags: Any) -> Any:
        bo = px.bo(npu, data.nbytes, flags, kernel.group_id(index))
        bo.write(data, 0)
        bo.sync(px.xclBOSyncDirection.XCL_BO_SYNC_BO_TO_DEVICE)
        launch.set_arg(index, bo)
        return bo

    samples, scales = device.quantise(np.random.default_rng(6).normal(size=(10, 400)))
    result = np.zeros((10, 80), np.int8)
    launch.set_arg(0, 3)
    buffers = [argument(1, code, px.bo.cacheable)]
    launch.set_arg(2, code.nbytes)
    data: list[Frames] = [samples, scales, result]
    buffers += [argument(3 + i, a, px.bo.host_only) for i, a in enumerate(data)]
    launch.start()
    assert launch.wait(100) == px.ert_cmd_state.ERT_CMD_STATE_COMPLETED
    buffers[-1].sync(px.xclBOSyncDirection.XCL_BO_SYNC_BO_FROM_DEVICE)
    device.log_mel(*(a.view(np.uint8).reshape(-1) for a in (samples, scales, result)))
    assert buffers[-1].read(result.nbytes, 0).tolist() == result.ravel().tolist()
