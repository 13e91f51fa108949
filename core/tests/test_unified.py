"""The older runtime's interface: every example that its users have, on a stand-in for a Phoenix NPU."""

import importlib.util
import logging
from pathlib import Path

import numpy as np
import pytest
from assay import NoImplementation, OperationFailed
from assay.testing import simxrt
from assay.unified import NPUMelProcessor, NPUMelProcessorBatch, UnifiedNPURuntime, create_npu_runtime

mel = pytest.importorskip("assay_mel")
gelu = pytest.importorskip("assay_gelu")
attention = pytest.importorskip("assay_attention")

STAND_IN = Path(__file__).parents[2] / "examples/npu/stand_in.py"
pytestmark = pytest.mark.skipif(
    not STAND_IN.is_file(), reason="the examples are not beside this installation"
)

RNG = np.random.default_rng(3)
AUDIO = (0.1 * RNG.standard_normal(8000)).astype(np.float32)


def features(audio, n_mels=80, center=False):
    """The definition, in float64."""
    return mel.MEL.reference(audio, n_mels=n_mels, center=center)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The stand-in's files; kernels serve without proof here, which other tests are about."""
    spec = importlib.util.spec_from_file_location("stand_in", STAND_IN)
    stand_in = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stand_in)
    made = tmp_path_factory.mktemp("npu")
    config = stand_in.write(made)
    config.write_text(config.read_text() + '\n[proof]\nmode = "off"\n')
    return made


@pytest.fixture(autouse=True)
def configured(folder, monkeypatch):
    """Every runtime reads the stand-in's configuration."""
    monkeypatch.setenv("ASSAY_CONFIG", str(folder / "assay.toml"))


@pytest.fixture
def npu():
    """A machine with an NPU; at the end everything has been given back."""
    sim = simxrt.Simulator("phoenix", xrt="2.25")
    with sim.installed():
        yield sim
    assert sim.live == simxrt.Live()
    assert sim.crashes == []


@pytest.fixture
def no_npu():
    """A machine without one."""
    with simxrt.Simulator("none").installed() as sim:
        yield sim


class TestExamples:
    """The calls in the older runtime's documentation, as they are written there."""

    def test_maximum_performance(self, npu):
        """1000 frames per call."""
        runtime = UnifiedNPURuntime(
            use_batch_processor=True,
            batch_size=1000,  # 1000 frames per call
            enable_mel=True,
            enable_gelu=True,
            enable_attention=True
        )  # fmt: skip
        assert "mel: xrt-batch, 1000 frames per call" in repr(runtime)
        runtime.close()

    def test_balanced_performance(self, npu):
        """All defaults: 100 frames per call."""
        runtime = UnifiedNPURuntime()  # All defaults
        assert "mel: xrt-batch, 100 frames per call" in repr(runtime)
        runtime.close()

    def test_low_latency(self, npu):
        """10 frames per call."""
        runtime = UnifiedNPURuntime(
            use_batch_processor=True,
            batch_size=10,  # Small batch for low latency
            enable_mel=True,
            enable_gelu=True,
            enable_attention=True
        )  # fmt: skip
        assert "mel: xrt-batch, 10 frames per call" in repr(runtime)
        runtime.close()

    def test_legacy_mode(self, npu):
        """One frame per call, and no batch kernel on standby."""
        runtime = UnifiedNPURuntime(
            use_batch_processor=False,  # Disable batch processor
            enable_mel=True,
            enable_gelu=True,
            enable_attention=True
        )  # fmt: skip
        assert "mel: xrt-single, 1 frame per call" in repr(runtime)
        assert np.abs(runtime.process_audio_to_features(AUDIO) - features(AUDIO)).max() < 0.05
        runtime.close()

    def test_forcing_single_frames(self, npu):
        """The older runtime's way back."""
        runtime = UnifiedNPURuntime(
            use_batch_processor=False,  # Force single-frame mode
        )
        assert runtime.use_batch_processor is False
        runtime.close()

    def test_in_a_server(self, npu):
        """As a member of the server, and the same call for both processors."""

        class Server:
            def __init__(self):
                self.npu_runtime = UnifiedNPURuntime(
                    use_batch_processor=True,    # Enables batch mode
                    batch_size=100,               # 100 frames per call
                    enable_mel=True,
                    enable_gelu=True,
                    enable_attention=True
                )  # fmt: skip

        runtime, audio = Server().npu_runtime, AUDIO
        mel_features = runtime.mel_processor.process(audio)
        assert (mel_features.shape, mel_features.dtype) == ((80, 48), np.float32)
        assert np.abs(mel_features - features(audio)).max() < 0.05
        assert np.array_equal(runtime.mel_processor(audio), mel_features)
        runtime.close()

    @pytest.mark.parametrize("fallback_to_cpu", [True, False])
    def test_the_processors(self, npu, folder, fallback_to_cpu):
        """Constructed as the older runtime did it: process, call, close."""
        xclbin_path = folder / "kernels/mel-batch/100.xclbin"
        batch = NPUMelProcessorBatch(
            batch_size=100,
            xclbin_path=str(xclbin_path),
            fallback_to_cpu=fallback_to_cpu
        )  # fmt: skip
        single = NPUMelProcessor(fallback_to_cpu=fallback_to_cpu)
        assert "xrt-batch, 100 frames" in repr(batch)
        assert "xrt-single, 1 frame" in repr(single)
        for processor in (batch, single):
            assert np.abs(processor.process(AUDIO) - features(AUDIO)).max() < 0.05
            assert np.array_equal(processor(AUDIO), processor.process(AUDIO))
            processor.close()
            processor.close()

    def test_the_tests_of_the_older_runtime(self, npu):
        """What its authors looked at: the configuration, a spectrogram, and the metrics."""
        with create_npu_runtime(batch_size=100) as runtime:
            assert (runtime.use_batch_processor, runtime.batch_size, runtime.device_id) == (True, 100, 0)
            result = runtime.process_audio_to_features(AUDIO)  # 8000 samples, 0.5 s
            assert (result.shape, result.dtype) == ((80, 48), np.float32)
            assert runtime.mel_available
            assert runtime.get_performance_metrics()["npu_available"]


def test_all_three_operations(npu):
    """Real values, the whole sequence, and the mask before the softmax."""
    with UnifiedNPURuntime() as runtime:
        assert runtime.npu_available
        assert runtime.mel_available
        assert runtime.gelu_available
        assert runtime.attention_available
        centred = runtime.process_audio_to_features(AUDIO, center=True, n_mels=128)
        assert centred.shape == (128, 50)
        assert np.abs(centred - features(AUDIO, 128, center=True)).max() < 0.05

        x = (3 * RNG.standard_normal((5, 700))).astype(np.float32)
        expected = gelu.GELU.reference(x, approximate="none")
        assert np.abs(runtime.gelu(x) - expected).max() < 0.01 * np.ptp(expected)

        q, k, v = (RNG.standard_normal((2, 60, 64)).astype(np.float32) for _ in range(3))
        mask = RNG.random((60, 60)) < 0.7
        params = dict(attention.ATTENTION.defaults)
        right = attention.ATTENTION.reference(q, k, v, mask=mask, **params)
        assert np.abs(runtime.attention(q, k, v, mask) - right).max() < 0.02 * np.abs(v).max()
        assert runtime.runtime.explain("attention")["xrt-tile"].counters.calls == 1


def test_attention_longer_than_the_tile(npu):
    """It is not cut: every query sees every key, by an implementation that takes it."""
    with UnifiedNPURuntime(enable_mel=False, enable_gelu=False) as runtime:
        q, k, v = (RNG.standard_normal((1, 200, 64)).astype(np.float32) for _ in range(3))
        k[:, 190] = 5 * q[:, 3]  # what query 3 looks for is three tiles away
        right = attention.ATTENTION.reference(q, k, v, **dict(attention.ATTENTION.defaults))
        assert np.abs(runtime.attention(q, k, v) - right).max() < 1e-4
        assert runtime.runtime.explain("attention")["xrt-tile"].counters.calls == 0


@pytest.mark.parametrize("shape", [(30, 128), (2, 30, 128)])
def test_multi_head_attention(npu, shape):
    """Heads lie side by side in the model's axis; any leading axes."""
    with UnifiedNPURuntime(enable_mel=False, enable_gelu=False) as runtime:
        q, k, v = (RNG.standard_normal(shape).astype(np.float32) for _ in range(3))
        got = runtime.multi_head_attention(q, k, v, num_heads=4)
        expected = np.empty(shape)
        for head in range(4):
            part = slice(32 * head, 32 * head + 32)
            scores = q[..., part].astype(np.float64) @ np.swapaxes(k[..., part], -1, -2) / np.sqrt(32)
            weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
            expected[..., part] = weights / weights.sum(axis=-1, keepdims=True) @ v[..., part]
        assert got.shape == shape
        assert np.abs(got - expected).max() < 0.02 * np.abs(v).max()


def test_metrics(npu, capsys):
    """The keys of the older runtime; they count what ran, and start again after a reset."""
    with UnifiedNPURuntime() as runtime:
        for _ in range(3):
            runtime.process_audio_to_features(AUDIO)
        runtime.gelu(np.ones(10, np.float32))
        metrics = runtime.get_performance_metrics()
        assert set(metrics) == {
            *("npu_available", "kernels_loaded", "total_audio_seconds", "total_processing_time"),
            *("realtime_factor", "kernel_times", "kernel_percentages", "total_kernel_time"),
        }
        assert (
            set(metrics["kernel_times"]) == set(metrics["kernel_percentages"]) == {"mel", "gelu", "attention"}
        )
        assert metrics["total_audio_seconds"] == pytest.approx(1.5)
        assert metrics["total_processing_time"] == metrics["kernel_times"]["mel"] > 0
        assert metrics["realtime_factor"] == pytest.approx(1.5 / metrics["kernel_times"]["mel"])
        assert metrics["total_kernel_time"] == pytest.approx(sum(metrics["kernel_times"].values()))
        assert sum(metrics["kernel_percentages"].values()) == pytest.approx(100)
        assert metrics["kernel_times"]["attention"] == 0
        runtime.print_performance_summary()
        printed = capsys.readouterr().out
        assert "mel: xrt-batch, 100 frames per call\n  3 call(s) by mel.xrt-batch" in printed
        assert "1.5 s of audio" in printed
        runtime.reset_metrics()
        again = runtime.get_performance_metrics()
        assert (again["total_audio_seconds"], again["total_kernel_time"], again["realtime_factor"]) == (
            0,
            0,
            0,
        )
        runtime.process_audio_to_features(AUDIO)
        assert runtime.get_performance_metrics()["total_audio_seconds"] == pytest.approx(0.5)


def test_what_is_reported_is_what_ran(npu, capsys):
    """After a fault the summary shows who served instead, and how often."""
    logging.getLogger("assay").setLevel(logging.CRITICAL)
    with UnifiedNPURuntime(enable_gelu=False, enable_attention=False) as runtime:
        runtime.process_audio_to_features(AUDIO)
        npu.inject(simxrt.Fault("run", "zeros", count=1))
        assert np.abs(runtime.process_audio_to_features(AUDIO) - features(AUDIO)).max() < 0.05
        npu.clear_faults()
        runtime.print_performance_summary()
        printed = capsys.readouterr().out
        assert "1 call(s) by mel.xrt-batch" in printed
        assert "1 call(s) by mel.xrt-single" in printed
    logging.getLogger("assay").setLevel(logging.NOTSET)


def test_without_an_npu(no_npu, caplog):
    """The CPU serves the same function, exactly; it is said why, and logged."""
    with caplog.at_level(logging.WARNING, "assay"), UnifiedNPURuntime() as runtime:
        assert not runtime.npu_available
        assert runtime.mel_available
        assert "(npu: No such device" in repr(runtime).replace("opening NPU 0: ", "")
        assert np.abs(runtime.process_audio_to_features(AUDIO) - features(AUDIO)).max() < 1e-3
        assert runtime.get_performance_metrics()["npu_available"] is False
    told = [record.getMessage() for record in caplog.records if "npu.not_serving" in record.getMessage()]
    assert len(told) == 3
    assert all("accuracy=exact" in text for text in told)


def test_closed_without_a_fallback(no_npu):
    """``fallback_to_cpu=False`` and no NPU: an error with every reason, and nothing left open."""
    for make in (UnifiedNPURuntime, NPUMelProcessor, NPUMelProcessorBatch):
        with pytest.raises(NoImplementation, match="No such device"):
            make(fallback_to_cpu=False)


def test_failing_without_a_fallback(npu):
    """At run time too: what the NPU fails no CPU serves."""
    logging.getLogger("assay").setLevel(logging.CRITICAL)
    with UnifiedNPURuntime(fallback_to_cpu=False) as runtime:
        assert np.abs(runtime.process_audio_to_features(AUDIO) - features(AUDIO)).max() < 0.05
        npu.inject(simxrt.Fault("run", "error", count=None))
        with pytest.raises(OperationFailed, match="xrt-batch"):
            runtime.process_audio_to_features(AUDIO)
        npu.clear_faults()
    logging.getLogger("assay").setLevel(logging.NOTSET)


def test_only_some_operations(npu):
    """What is not enabled is not opened."""
    with UnifiedNPURuntime(enable_gelu=False, enable_attention=False) as runtime:
        assert (runtime.mel_available, runtime.gelu_available, runtime.attention_available) == (
            True,
            False,
            False,
        )
        with pytest.raises(NoImplementation, match="was not opened"):
            runtime.gelu(np.ones(3, np.float32))
        assert runtime.get_performance_metrics()["kernel_times"]["gelu"] == 0
    with UnifiedNPURuntime(enable_mel=False) as runtime:
        assert runtime.mel_processor is None


def test_another_device(npu):
    """The index is the driver's."""
    with UnifiedNPURuntime(device_id=1) as runtime:
        assert not runtime.npu_available
        assert "No such device with index '1'" in repr(runtime)


def test_no_manifest_beside_the_xclbin(npu, tmp_path):
    """The CPU serves, and the reason says what is missing."""
    processor = NPUMelProcessorBatch(xclbin_path=tmp_path / "mine.xclbin")
    assert "no kernel manifest describes a kernel for it" in repr(processor)
    processor.close()
