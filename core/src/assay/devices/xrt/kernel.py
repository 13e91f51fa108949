"""A manifest's kernel on an opened NPU: codes in, launch, codes out; two runs in flight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from assay.contract.device import Device, Plan
from assay.contract.operation import Array
from assay.devices.xrt.errors import raised
from assay.devices.xrt.manifest import Buffer, Design, Manifest, Quantisation
from assay.devices.xrt.session import Buffers, Context, Region, Run, Session

IN_FLIGHT = 2


class XrtKernel:
    """An item kernel. ``begin`` and ``finish`` let the next block be copied while one is computed.

    Raises:
        Exception: The design does not open; with what was expected and found.
    """

    def __init__(self, manifest: Manifest, device: Device, plan: Plan) -> None:
        self.manifest = manifest
        self.session: Session = device.handle
        self.contexts: list[Context] = []
        self.slots: dict[int, list[_Slot]] = {}
        self.turn = 0
        self.plan = plan
        self.designs = {design.batch_size: design for design in manifest.designs}
        self.session.closers.append(self.close)
        try:
            self._open(self.designs[plan.batch_size])
        except BaseException:
            self.close()
            raise

    def _open(self, design: Design) -> None:
        manifest, session = self.manifest, self.session
        instructions = _instructions(manifest.file(design.instructions))
        context = session.context(manifest.file(design.xclbin))
        self.contexts.append(context)
        kernel = context.kernel(manifest.kernel)
        declared = context.arguments[manifest.kernel]
        highest = max(buffer.argument for buffer in manifest.buffers)
        if highest >= declared:
            raise ValueError(
                f"{manifest.path.name} sets argument {highest}; the kernel {manifest.kernel} in "
                f"{design.xclbin} declares {declared} (0 to {declared - 1})"
            )
        self.slots[design.batch_size] = [
            _Slot(manifest, session, kernel, instructions, design.batch_size, self.plan)
            for _ in range(IN_FLIGHT)
        ]

    def __call__(self, *blocks: Array, out: Array, **params: Any) -> Array:
        """One block: begun and finished."""
        return self.finish(self.begin(*blocks, **params), out)

    def begin(self, *blocks: Array, **params: Any) -> _Slot:
        """Copy a block to the device and launch. At most two may be begun and not finished."""
        size = len(blocks[0])
        if size not in self.slots:  # a tail's size, met for the first time
            self._open(self.designs[size])
        slots = self.slots[size]
        self.turn += 1
        slot = slots[self.turn % IN_FLIGHT]
        slot.begin(blocks, params, self.turn)
        return slot

    def finish(self, slot: _Slot, out: Array) -> Array:
        """Wait for a block and fill ``out``."""
        slot.finish(out)
        return out

    def close(self) -> None:
        """Give everything back: runs, buffers, then contexts."""
        for slots in self.slots.values():
            for slot in slots:
                slot.close()
        self.slots.clear()
        contexts, self.contexts = self.contexts, []
        for context in contexts:
            context.release()
        if self.close in self.session.closers:
            self.session.closers.remove(self.close)


class _Slot:
    """The buffers and the run of one block in flight; made once, used for ever."""

    def __init__(
        self, manifest: Manifest, session: Session, kernel: Any, instructions: Array, size: int, plan: Plan
    ) -> None:
        from assay.contract.capabilities import BufferFlag

        self.manifest, self.size = manifest, size
        assert plan.buffer_flag is not None
        self.code = Buffers(session, BufferFlag.CACHEABLE, [(instructions.nbytes, kernel.group_id(1))])
        program = self.code.regions[0]
        program.view[: instructions.nbytes] = instructions.view(np.uint8)
        program.to_device()
        wanted = [(buffer.nbytes(size), kernel.group_id(buffer.argument)) for buffer in manifest.buffers]
        self.data = Buffers(session, plan.buffer_flag, wanted)
        self.regions = dict(zip((b.argument for b in manifest.buffers), self.data.regions, strict=True))
        length = instructions.nbytes if manifest.length_unit == "bytes" else instructions.size
        arguments: list[Any] = [manifest.opcode, program.bo, length]
        self.run = Run(session, kernel, arguments)
        for buffer in manifest.buffers:
            self.run.handle.set_arg(buffer.argument, self.regions[buffer.argument].bo)
        self.coders = [_Coder(b, self._region(b), size, self._scale(b)) for b in manifest.inputs]
        self.decoder = _Coder(
            manifest.output, self._region(manifest.output), size, self._scale(manifest.output)
        )
        row = self.decoder.codes.nbytes // size
        self.canary = (np.arange(row, dtype=np.uint32) * 167 + 89).astype(np.uint8)
        self.bytes = self.decoder.codes.reshape(size, -1).view(np.uint8)

    def _region(self, buffer: Buffer) -> Region:
        return self.regions[buffer.argument]

    def _scale(self, buffer: Buffer) -> Region | None:
        scale = self.manifest.scale_of(buffer.name)
        return None if scale is None else self.regions[scale.argument]

    def begin(self, blocks: Sequence[Array], params: Mapping[str, Any], turn: int) -> None:
        if self.run.running:  # the run before was given up on: its buffers are the device's until it ends
            self.run.wait(self.manifest.watchdog_s)
        try:
            for coder, block in zip(self.coders, blocks, strict=True):
                coder.encode(block, params)
            self.canary += np.uint8(turn & 1)  # another one each time, so that a stale output shows
            self.bytes[:] = self.canary
            self.decoder.region.to_device()
        except RuntimeError as error:
            raise raised(error, "writing the inputs") from error
        self.run.start()

    def finish(self, out: Array) -> None:
        self.run.wait(self.manifest.watchdog_s)
        try:
            self.decoder.from_device()
        except RuntimeError as error:
            raise raised(error, "reading the output") from error
        unwritten = (self.bytes == self.canary).all(axis=1)
        if unwritten.any():
            rows = np.flatnonzero(unwritten)
            raise RuntimeError(f"COMPLETED, but {len(rows)} of {self.size} items were never written")
        self.decoder.decode(out, [coder.gains for coder in self.coders if coder.gains is not None])

    def close(self) -> None:
        """Runs before buffers."""
        self.run.close()
        del self.bytes, self.coders, self.decoder
        self.regions = {}
        self.data.close()
        self.code.close()


class _Coder:
    """Real values to codes and back, for one buffer, without allocating after the first call."""

    def __init__(self, buffer: Buffer, region: Region, size: int, scale: Region | None) -> None:
        self.buffer, self.region, self.scale = buffer, region, scale
        dtype = np.dtype(buffer.dtype)
        self.codes = region.array(dtype, (size, *buffer.item_shape))
        self.real = np.empty(self.codes.shape, np.float32)
        self.quantisation = buffer.quantisation
        self.low, self.high = _clip(buffer.quantisation, dtype)
        self.rows = self.real.reshape(size, -1)
        self.scales = np.ones((size, 1), np.float32)
        self.shared = self._shared_scales()
        self.gains: Array | None = None
        """Per item, the scale used over the scale that the design was made for."""

    def _shared_scales(self) -> Array | None:
        """Where the device reads or writes the scales of the items, if it does."""
        if self.scale is not None:
            return self.scale.array(np.dtype(np.float32), self.scales.shape)
        if self.buffer.scales_behind:
            start = self.buffer.codes(len(self.scales))
            return self.region.view[start : start + self.scales.nbytes].view(np.float32).reshape(-1, 1)
        return None

    def encode(self, block: Array, params: Mapping[str, Any]) -> None:
        """Write a block's codes and make them the device's."""
        quantisation = self.quantisation
        if quantisation is None:
            np.copyto(self.codes, block.reshape(self.codes.shape), casting="same_kind")
        else:
            values = block.reshape(self.rows.shape)
            if quantisation.from_data:
                # Per item, so that no item's codes depend on its neighbours in the block.
                np.abs(values, out=self.rows)
                np.max(self.rows, axis=1, out=self.scales, keepdims=True)
                self.scales /= np.float32(self.high - quantisation.zero_point)
                self.scales[self.scales == 0] = quantisation.scale
                self.gains = self.scales / np.float32(quantisation.scale)
                np.divide(values, self.scales, out=self.rows)
            else:
                np.multiply(values, np.float32(1 / quantisation.scale), out=self.rows)
            np.rint(self.rows, out=self.rows)
            if quantisation.zero_point:
                self.rows += np.float32(quantisation.zero_point)
            np.clip(self.rows, self.low, self.high, out=self.rows)
            np.copyto(self.codes, self.real, casting="unsafe")
            if self.shared is not None:
                if not quantisation.from_data:
                    self.scales.fill(quantisation.scale)
                factor = params[self.buffer.factor] if self.buffer.factor else 1.0
                np.multiply(self.scales, np.float32(factor), out=self.shared)
                if self.scale is not None:
                    self.scale.to_device()
        self.region.to_device()

    def from_device(self) -> None:
        """Make the device's codes the host's."""
        self.region.from_device()
        if self.scale is not None:
            self.scale.from_device()

    def decode(self, out: Array, gains: Sequence[Array]) -> None:
        """The real values of the codes."""
        target = out.reshape(self.rows.shape)
        codes = self.codes.reshape(self.rows.shape)
        quantisation = self.quantisation
        if quantisation is None:
            np.copyto(target, codes)
        else:
            scale: Any = np.float32(quantisation.scale)
            if self.shared is not None:
                scale = self.shared
                if not np.isfinite(scale).all():
                    raise RuntimeError("the device gave a scale of its output that is not finite")
            if quantisation.zero_point:
                np.subtract(codes, np.float32(quantisation.zero_point), out=target)
                target *= scale
            else:
                np.multiply(codes, scale, out=target)
        for gain in gains:
            if self.buffer.gain == "linear":
                target *= gain
            elif self.buffer.gain == "log10_power":
                target += 2 * np.log10(gain)
        if self.buffer.minimum is not None:
            np.maximum(target, np.float32(self.buffer.minimum), out=target)


def _clip(quantisation: Quantisation | None, dtype: np.dtype[Any]) -> tuple[float, float]:
    if quantisation is not None and quantisation.clip is not None:
        return quantisation.clip
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return float(limits.min), float(limits.max)
    return -np.inf, np.inf


def _instructions(path: Path) -> Array:
    """The instruction words of a design.

    Raises:
        ValueError: The file is not what mlir-aie writes: whole words, with their length in the header.
    """
    data = path.read_bytes()
    if len(data) % 4 or len(data) < 16:
        raise ValueError(f"{path.name} has {len(data)} bytes: instructions are at least 4 whole 32-bit words")
    words = np.frombuffer(data, np.uint32)
    if int(words[3]) != len(data):
        raise ValueError(
            f"{path.name} says in its header that it has {int(words[3])} bytes; it has {len(data)}"
        )
    return words
