"""The older runtime's interface, over ``Runtime``: for servers that were written against it.

Nothing is computed or decided here. What differs from the older runtime, above all the numbers of the
fallback, is in docs/migration.md.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from assay.contract.candidate import Candidate, State
from assay.contract.errors import NoImplementation
from assay.contract.log import emit
from assay.runtime import Runtime

Array = NDArray[Any]

ITEMS = {"mel": "frame", "gelu": "row", "attention": "head"}
OPERATIONS = tuple(ITEMS)
NPU = "xrt"


class MelProcessor:
    """Mel features of one recording at a time: ``process(audio)``, or call it.

    ``audio`` is float32 mono at 16 kHz, (samples,); the result float32, (n_mels, frames).
    """

    def __init__(self, runtime: Runtime, *, owned: bool = False) -> None:
        self._runtime, self._owned = runtime, owned

    def process(self, audio: Array, *, n_mels: int = 80, center: bool = False) -> Array:
        """Log-mel features; with ``center=False`` of the frames inside the signal only, as it was before."""
        return self._runtime.run("mel", audio, n_mels=n_mels, center=center)  # type: ignore[no-any-return]

    def __call__(self, audio: Array, *, n_mels: int = 80, center: bool = False) -> Array:
        """The same as ``process``."""
        return self.process(audio, n_mels=n_mels, center=center)

    def close(self) -> None:
        """Close the runtime, if this processor opened it."""
        if self._owned:
            self._runtime.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {_serves(self._runtime, 'mel')}>"


class NPUMelProcessorBatch(MelProcessor):
    """The batch processor: ``batch_size`` frames per kernel call.

    Args:
        batch_size: Frames per call of the NPU's kernel.
        xclbin_path: An xclbin (or a folder) with its kernel manifest beside it; None: those configured.
        fallback_to_cpu: Whether another implementation may serve where the NPU's does not.

    Raises:
        NoImplementation: Nothing that is admitted can serve, with every reason.
    """

    def __init__(
        self, batch_size: int = 100, xclbin_path: str | Path | None = None, fallback_to_cpu: bool = True
    ) -> None:
        config = _config(0, fallback_to_cpu, True, batch_size, ("mel",), xclbin_path)
        super().__init__(_open(config, ("mel",)), owned=True)


class NPUMelProcessor(MelProcessor):
    """The single-frame processor.

    Raises:
        NoImplementation: Nothing that is admitted can serve, with every reason.
    """

    def __init__(self, fallback_to_cpu: bool = True) -> None:
        super().__init__(_open(_config(0, fallback_to_cpu, False, 1, ("mel",)), ("mel",)), owned=True)


class UnifiedNPURuntime:
    """Mel, GELU and attention behind one object: on the NPU where its kernels have proved themselves.

    Args:
        device_id: Which NPU.
        enable_mel: Open mel.
        enable_gelu: Open GELU.
        enable_attention: Open attention.
        fallback_to_cpu: Whether other implementations may serve where the NPU's do not.
        use_batch_processor: Admit the NPU's batch kernel for mel, not only the single-frame one.
        batch_size: Frames per call of the batch kernel.

    Raises:
        NoImplementation: ``fallback_to_cpu=False`` and the NPU serves an enabled operation not at all.
    """

    def __init__(
        self,
        device_id: int = 0,
        enable_mel: bool = True,
        enable_gelu: bool = True,
        enable_attention: bool = True,
        fallback_to_cpu: bool = True,
        use_batch_processor: bool = True,
        batch_size: int = 100,
    ) -> None:
        enabled = dict(zip(OPERATIONS, (enable_mel, enable_gelu, enable_attention), strict=True))
        ops = tuple(name for name, wanted in enabled.items() if wanted)
        self.device_id = device_id
        self.use_batch_processor = use_batch_processor
        self.batch_size = batch_size
        self.runtime = _open(_config(device_id, fallback_to_cpu, use_batch_processor, batch_size, ops), ops)
        self._ops = ops
        self._before: dict[str, _Count] = {}
        self.mel_processor = MelProcessor(self.runtime) if enable_mel else None

    @property
    def npu_available(self) -> bool:
        """Whether the NPU serves at least one operation now."""
        return any(_on_npu(_serving(self.runtime, op)) for op in self._ops)

    @property
    def mel_available(self) -> bool:
        """Whether something serves mel."""
        return self._available("mel")

    @property
    def gelu_available(self) -> bool:
        """Whether something serves GELU."""
        return self._available("gelu")

    @property
    def attention_available(self) -> bool:
        """Whether something serves attention."""
        return self._available("attention")

    def process_audio_to_features(self, audio: Array, *, n_mels: int = 80, center: bool = False) -> Array:
        """Log-mel features, float32 (n_mels, frames), of float32 mono audio at 16 kHz, (samples,)."""
        return self.runtime.run("mel", audio, n_mels=n_mels, center=center)  # type: ignore[no-any-return]

    def gelu(self, x: Array, **params: Any) -> Array:
        """GELU of any shape: real values, never codes."""
        return self.runtime.run("gelu", x, **params)  # type: ignore[no-any-return]

    def attention(self, q: Array, k: Array, v: Array, mask: Array | None = None, **params: Any) -> Array:
        """Attention over the whole length; the mask is applied before the softmax."""
        return self.runtime.run("attention", q, k, v, mask=mask, **params)  # type: ignore[no-any-return]

    def multi_head_attention(
        self, q: Array, k: Array, v: Array, num_heads: int = 8, mask: Array | None = None
    ) -> Array:
        """Attention of ``num_heads`` heads over (..., length, model), for each head (..., length, depth)."""

        def heads(x: Array) -> Array:
            return np.ascontiguousarray(x.reshape(*x.shape[:-1], num_heads, -1).swapaxes(-3, -2))

        result = self.attention(heads(q), heads(k), heads(v), mask)
        return np.ascontiguousarray(result.swapaxes(-3, -2)).reshape(*q.shape[:-1], -1)

    def get_performance_metrics(self) -> dict[str, Any]:
        """What ran since the start or the last reset. Times are in seconds."""
        times = {op: sum(count.seconds for _, count in self._ran(op)) for op in OPERATIONS}
        total = sum(times.values())
        audio = sum(count.work for _, count in self._ran("mel"))
        return {
            "npu_available": self.npu_available,
            "kernels_loaded": {op: c.id for op in self._ops if (c := _serving(self.runtime, op)) is not None},
            "total_audio_seconds": audio,
            "total_processing_time": times["mel"],
            "realtime_factor": audio / times["mel"] if times["mel"] else 0.0,
            "kernel_times": times,
            "kernel_percentages": {op: 100 * t / total if total else 0.0 for op, t in times.items()},
            "total_kernel_time": total,
        }

    def reset_metrics(self) -> None:
        """Count from here."""
        self._before = {c.id: _Count.of(c) for op in self._ops for c in self.runtime.explain(op).candidates}

    def print_performance_summary(self) -> None:
        """Print what ran, and how fast."""
        metrics = self.get_performance_metrics()
        lines = []
        for op in self._ops:
            lines.append(_serves(self.runtime, op))
            lines += [f"  {count.calls} call(s) by {candidate.id}" for candidate, count in self._ran(op)]
        lines.append(
            f"{metrics['total_audio_seconds']:.1f} s of audio in {metrics['total_processing_time']:.3f} s: "
            f"{metrics['realtime_factor']:.0f} times real time"
        )
        for op, share in metrics["kernel_percentages"].items():
            lines.append(f"  {op}: {metrics['kernel_times'][op]:.3f} s, {share:.0f} %")
        sys.stdout.write("\n".join(lines) + "\n")

    def close(self) -> None:
        """Let everything go. May be called more than once."""
        self.runtime.close()

    def _available(self, op: str) -> bool:
        return op in self._ops and _serving(self.runtime, op) is not None

    def _ran(self, op: str) -> Iterator[tuple[Candidate, _Count]]:
        """Who served an operation since the last reset, and how much."""
        for candidate in self.runtime.explain(op).candidates if op in self._ops else ():
            count = _Count.of(candidate).since(self._before.get(candidate.id, _Count()))
            if count.calls:
                yield candidate, count

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<UnifiedNPURuntime {'; '.join(_serves(self.runtime, op) for op in self._ops)}>"


class _Count(NamedTuple):
    """What one implementation did."""

    calls: int = 0
    seconds: float = 0.0
    work: float = 0.0

    @classmethod
    def of(cls, candidate: Candidate) -> _Count:
        counters = candidate.counters
        return cls(counters.calls, counters.seconds, counters.work)

    def since(self, before: _Count) -> _Count:
        return _Count(self.calls - before.calls, self.seconds - before.seconds, self.work - before.work)


def create_npu_runtime(**options: Any) -> UnifiedNPURuntime:
    """A ``UnifiedNPURuntime`` with these options."""
    return UnifiedNPURuntime(**options)


def _config(
    device: int,
    fallback: bool,
    batch: bool,
    batch_size: int,
    ops: tuple[str, ...],
    xclbin: str | Path | None = None,
) -> dict[str, Any]:
    """The older constructor's switches as a configuration. NPU kernels are quantised: approximate."""
    demands: dict[str, dict[str, Any]] = {}
    for op in ops:
        demands[op] = {"accuracy": "approximate", "prefer": [f"{NPU}-batch*", f"{NPU}-*"]}
        if not fallback:
            demands[op]["require"] = f"{NPU}-*"
    if "mel" in demands:
        demands["mel"]["batch_size"] = batch_size if batch else 1
        if not batch:
            demands["mel"]["deny"] = [f"{NPU}-batch*"]
    config: dict[str, Any] = {"devices": {NPU: {"index": device}}, "ops": demands}
    if xclbin is not None:
        path = Path(xclbin)
        config["kernels"] = {"paths": [path if path.is_dir() else path.parent]}
    return config


def _open(config: Mapping[str, Any], ops: tuple[str, ...]) -> Runtime:
    runtime = Runtime(config, ops=ops)
    try:
        for op in ops:
            runtime.op(op)
            serving = _serving(runtime, op)
            if serving is not None and not _on_npu(serving):
                accuracy = serving.implementation.capabilities.accuracy.value
                emit(
                    logging.WARNING,
                    "npu.not_serving",
                    op=op,
                    candidate=serving.id,
                    accuracy=accuracy,
                    reason=_why_not(runtime, op),
                )
    except NoImplementation:
        runtime.close()
        raise
    return runtime


def _serving(runtime: Runtime, op: str) -> Candidate | None:
    return next((c for c in runtime.explain(op).candidates if c.state is State.SERVING), None)


def _on_npu(candidate: Candidate | None) -> bool:
    return candidate is not None and candidate.plan is not None and candidate.plan.device.kind == NPU


def _serves(runtime: Runtime, op: str) -> str:
    """What serves, and why it is not the NPU where it is not."""
    serving = _serving(runtime, op)
    if serving is None:
        return f"{op}: nothing serves"
    text = f"{op}: {serving.implementation.name}"
    if serving.implementation.capabilities.form == "items" and serving.plan is not None:
        size = serving.plan.batch_size
        text += f", {size} {ITEMS[op]}{'s' if size > 1 else ''} per call"
    return text if _on_npu(serving) else f"{text} (npu: {_why_not(runtime, op)})"


def _why_not(runtime: Runtime, op: str) -> str:
    """Why the NPU does not serve an operation."""
    candidates = runtime.explain(op).candidates
    npu = [c for c in candidates if c.implementation.capabilities.requires.device == NPU and c.reasons]
    return npu[0].reasons[-1].message if npu else "no kernel manifest describes a kernel for it"
