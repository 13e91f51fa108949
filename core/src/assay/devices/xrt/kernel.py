"""A manifest's kernel on an opened NPU: codes in, launch, codes out; two runs in flight."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from assay.contract.capabilities import BufferFlag
from assay.contract.device import Device, Plan
from assay.contract.errors import DeviceLost, DeviceUnavailable
from assay.contract.log import emit
from assay.contract.operation import Array, Params
from assay.contract.reasons import ReasonCode
from assay.devices.xrt.buffers import Buffers
from assay.devices.xrt.codec import Codes, Decoder, Encoder
from assay.devices.xrt.errors import raised
from assay.devices.xrt.manifest import HOST_ARGUMENTS, Buffer, Design, Manifest
from assay.devices.xrt.run import Run
from assay.devices.xrt.session import Context, Session, keep_for_ever

IN_FLIGHT = 2
"""Blocks begun and not finished: enough for copying to overlap computing."""

MARK = 8
"""Bytes at either end of an item's result that tell whether it was written."""


class XrtKernel:
    """An item kernel. ``begin`` and ``finish`` let the next block be copied while one is computed.

    A block may be smaller than the design that takes it, which then computes what is left over from before.

    Raises:
        Exception: The design does not open; with what was expected and found.
    """

    def __init__(self, manifest: Manifest, device: Device, plan: Plan) -> None:
        assert plan.buffer_flag is not None
        self.manifest = manifest
        self.flag = plan.buffer_flag
        self.session: Session = device.handle
        self.designs = {design.batch_size: design for design in manifest.designs}
        self.opened: dict[int, _Opened] = {}
        self.takers: dict[int, _Opened] = {}
        """Which of the opened takes a block of each length."""
        self.last: _Slot | None = None
        self.closed = False
        # Its owner is one thread at a time; the lock is for close(), which comes from another one.
        self.lock = threading.Lock()
        self.life = self.session.renew()
        self.session.closers.append(self.close)
        try:
            self._open(plan.batch_size)
        except BaseException:
            self.close()
            raise

    def __call__(self, *blocks: Array, out: Array, **params: Any) -> Array:
        """One block, begun and finished by the design of its very size: a proof is about that one."""
        with self.lock:
            self._live()
            size = len(blocks[0])
            opened = self.opened.get(size) or self._open(size, at_all_costs=True)
            slot = self._begin(opened, blocks, params)
        return self.finish(slot, out)

    def begin(self, *blocks: Array, **params: Any) -> _Slot:
        """Copy a block to the device and launch. At most two may be begun and not finished."""
        with self.lock:
            self._live()
            size = len(blocks[0])
            return self._begin(self.takers.get(size) or self._taker(size), blocks, params)

    def finish(self, slot: _Slot, out: Array) -> Array:
        """Wait for a block and fill ``out``."""
        with self.lock:
            if slot.closed:
                raise DeviceLost(f"{self.manifest.name} was closed, or its device lost, during the run")
            try:
                slot.finish(out)
            except DeviceLost:
                self.session.lost = True
                raise
            self.last = slot
        return out

    def describe(self) -> str:
        """What the codes of the last block say beyond their values, for whoever found these wrong."""
        return "" if self.last is None or self.last.bytes.any() else "the device gave nothing but zeros"

    def close(self) -> None:
        """Give everything back. May be called more than once, from any thread."""
        with self.lock:
            self.closed = True
            self._let_go()
            if self.close in self.session.closers:
                self.session.closers.remove(self.close)

    def _begin(self, opened: _Opened, blocks: Sequence[Array], params: Params) -> _Slot:
        slot = next(opened.turns)
        try:
            slot.begin(blocks, params)
        except DeviceLost:
            self.session.lost = True
            raise
        return slot

    def _live(self) -> None:
        """See that the handles are those of the device as it is now."""
        if self.closed:
            raise RuntimeError(f"{self.manifest.name} is closed")
        if self.session.lost or self.session.life != self.life:
            self._let_go()
            try:
                self.life = self.session.renew()
            except DeviceUnavailable as error:
                raise DeviceLost(str(error)) from error

    def _taker(self, size: int) -> _Opened:
        """Who takes a block of a size that was not met before: a tail's own design, if it can be had."""
        try:
            taker = self.opened.get(size) or self._open(size)
        except DeviceUnavailable as error:
            if error.code != ReasonCode.DEVICE_BUSY:
                raise
            larger = [opened for other, opened in self.opened.items() if other > size]
            if not larger:
                return self._open(size, at_all_costs=True)
            taker = min(larger, key=lambda opened: opened.size)
            emit(logging.INFO, "block.padded", kernel=self.manifest.name, items=size, to=taker.size)
        self.takers[size] = taker
        return taker

    def _open(self, size: int, at_all_costs: bool = False) -> _Opened:
        try:
            opened = _Opened(self.manifest, self.designs[size], self.session, self.flag)
        except DeviceUnavailable as error:
            if error.code != ReasonCode.DEVICE_BUSY or not (at_all_costs and self.opened):
                raise
            self._let_go()  # the contexts of the other sizes
            opened = _Opened(self.manifest, self.designs[size], self.session, self.flag)
        self.opened[size] = opened
        return opened

    def _let_go(self) -> None:
        self.last = None
        self.takers.clear()
        while self.opened:
            self.opened.popitem()[1].close()


class _Opened:
    """One design with its context, its instructions and a slot for each block in flight."""

    def __init__(self, manifest: Manifest, design: Design, session: Session, flag: BufferFlag) -> None:
        self.size = design.batch_size
        self.watchdog_s = manifest.watchdog_s
        self.slots: list[_Slot] = []
        self.code: Buffers | None = None
        words = _instructions(manifest.file(design.instructions))
        self.context: Context = session.context(manifest.file(design.xclbin))
        try:
            kernel = self.context.kernel(manifest.kernel)
            _check_arguments(manifest, design, self.context.arguments[manifest.kernel])
            wanted = [("the instruction buffer (argument 1)", words.nbytes, kernel.group_id(1))]
            self.code = Buffers(session, BufferFlag.CACHEABLE, wanted)
            program = self.code.regions[0]
            program.view[:] = words.view(np.uint8)
            self.code.to_device()
            length = words.nbytes if manifest.length_unit == "bytes" else words.size
            host = {0: manifest.opcode, 1: program.bo, 2: length}
            encoders = [Encoder(buffer, self.size) for buffer in manifest.inputs]
            decoder = Decoder(manifest.output, self.size)
            for _ in range(IN_FLIGHT):
                self.slots.append(_Slot(manifest, session, kernel, host, encoders, decoder, self.size, flag))
        except BaseException:
            self.close()
            raise
        self.turns = itertools.cycle(self.slots)

    def close(self) -> None:
        """Runs, then buffers, then the context. What a hung run still uses stays for ever."""
        ended = [slot.close(self.watchdog_s) for slot in self.slots]
        if not all(ended):
            keep_for_ever(self)
            return
        self.slots.clear()
        if self.code is not None:
            self.code.close()
        self.context.release()


class _Slot:
    """The buffers and the run of one block in flight; made once, used for ever."""

    def __init__(
        self,
        manifest: Manifest,
        session: Session,
        kernel: Any,
        host: dict[int, Any],
        encoders: Sequence[Encoder],
        decoder: Decoder,
        size: int,
        flag: BufferFlag,
    ) -> None:
        self.watchdog_s, self.flag = manifest.watchdog_s, flag
        self.encoders, self.decoder = encoders, decoder
        wanted = [
            (f"{b.name!r} (argument {b.argument})", b.nbytes(size), kernel.group_id(b.argument))
            for b in manifest.buffers
        ]
        self.data = Buffers(session, flag, wanted)
        regions = {b.argument: region for b, region in zip(manifest.buffers, self.data.regions, strict=True)}
        data = {argument: region.bo for argument, region in regions.items()}
        self.run = Run(session.pyxrt, kernel, {**host, **data})

        def codes(buffer: Buffer) -> Codes:
            scale = manifest.scale_of(buffer.name)
            behind = None if scale is None else regions[scale.argument]
            return Codes(buffer, regions[buffer.argument], behind, size)

        self.inputs = [codes(buffer) for buffer in manifest.inputs]
        self.output = codes(manifest.output)
        scale = manifest.scale_of(manifest.output.name)
        self.results = [regions[b.argument] for b in (manifest.output, scale) if b is not None]
        self.bytes = self.output.values.view(np.uint8)
        self.marks = _marks(self.bytes)
        self.unwritten = np.empty(size, bool)
        self.canary = np.uint64(0)
        self.closed = False

    def begin(self, blocks: Sequence[Array], params: Params) -> None:
        """Copy a block to the device and launch."""
        if self.run.running:  # it was given up on: the buffers are the device's until it ends
            self.run.wait(self.watchdog_s)
        if len(blocks) != len(self.encoders):
            names = ", ".join(encoder.buffer.name for encoder in self.encoders)
            raise ValueError(
                f"the operation's items have {len(blocks)} inputs, the manifest {len(self.encoders)}: {names}"
            )
        for encoder, block, codes in zip(self.encoders, blocks, self.inputs, strict=True):
            encoder.encode(block, params, codes)
        self.canary = np.uint64(int(self.canary) * 5 + 0x9E3779B97F4A7C15 & 0xFFFF_FFFF_FFFF_FFFF)
        for mark in self.marks:
            mark.fill(self.canary)
        try:
            self.data.to_device()
        except RuntimeError as error:
            raise raised(error, "writing the inputs") from error
        self.run.start()

    def finish(self, out: Array) -> None:
        """Wait, and give the real values of what the device wrote."""
        self.run.wait(self.watchdog_s)
        try:
            for region in self.results:
                region.from_device()
        except RuntimeError as error:
            raise raised(error, "reading the output") from error
        n = len(out)
        for mark in self.marks:
            np.equal(mark, self.canary, out=self.unwritten)
            if rows := np.count_nonzero(self.unwritten[:n]):
                hint = (
                    "" if self.flag is BufferFlag.HOST_ONLY else f"; {self.flag} data is known to be ignored"
                )
                raise RuntimeError(
                    f"COMPLETED, but {rows} of {n} items were never written, or not whole{hint}"
                )
        self.decoder.decode(self.output, out, self.inputs)

    def close(self, timeout_s: float) -> bool:
        """The run before the buffers; whether it has ended."""
        self.closed = True
        if not self.run.close(timeout_s):
            return False
        del self.bytes, self.marks, self.inputs, self.output  # views of the buffers
        self.results.clear()
        self.data.close()
        return True


def _marks(rows: Array) -> list[Array]:
    """The first and the last bytes of each row as integers: views; none where rows are too short."""
    size, length = rows.shape
    starts = (0, length - MARK) if length >= MARK else ()
    return [np.ndarray((size,), np.uint64, rows.data, start, (length,)) for start in starts]


def _check_arguments(manifest: Manifest, design: Design, declared: int) -> None:
    """XRT crashes where a buffer is set for an argument beyond the kernel's last."""
    highest = max(buffer.argument for buffer in manifest.buffers)
    if max(highest, HOST_ARGUMENTS - 1) >= declared:
        raise ValueError(
            f"{manifest.path.name} sets argument {highest}; the kernel {manifest.kernel} in "
            f"{design.xclbin} declares {declared} (0 to {declared - 1})"
        )


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
