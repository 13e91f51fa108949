"""Real values to a device's codes and back, in as few passes as NumPy allows and without allocating."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from assay.contract.operation import Array, Params
from assay.devices.xrt.buffers import Region
from assay.devices.xrt.manifest import Buffer

FLOAT32 = np.dtype(np.float32)

FAINT = np.float32(2e-38)
"""The smallest scale that float32 divides by without loss; an item that would need one below it is zeros."""


class Codes:
    """One input or output of a block in flight: the host's side of its buffer.

    ``scales``: where the device reads or writes the scales of the items, (size, 1), if it does.
    ``gains``: per item, the scale that was taken from the data over the one that the design was made for.
    """

    def __init__(self, buffer: Buffer, region: Region, scale: Region | None, size: int) -> None:
        dtype = np.dtype(np.uint16 if buffer.dtype == "bfloat16" else buffer.dtype)
        self.values = region.array(dtype, (size, int(np.prod(buffer.item_shape))))
        self.scales: Array | None = None
        if scale is not None:
            self.scales = scale.array(FLOAT32, (size, 1))
        elif buffer.scales_behind:
            self.scales = region.array(FLOAT32, (size, 1), start=self.values.nbytes)
        if self.scales is not None:
            self.scales[:] = 1
        self.gains = np.ones((size, 1), np.float32)


class _Codec:
    """What encoding and decoding share: the buffer's description, and scratch that all slots use in turn."""

    def __init__(self, buffer: Buffer, size: int) -> None:
        self.buffer = buffer
        self.bfloat = buffer.dtype == "bfloat16"
        self.length = int(np.prod(buffer.item_shape))
        self.bits = np.empty((size if self.bfloat else 0, self.length), np.uint32)
        self.column = np.ones((size, 1), np.float32)
        self.which = np.empty((size, 1), bool)

    def _fits(self, block: Array) -> int:
        """The number of items in a block of the operation's.

        Raises:
            ValueError: They are not what the manifest says.
        """
        shape = self.buffer.item_shape
        if block.shape[1:] != shape:
            raise ValueError(
                f"items of {self.buffer.name!r} have shape {block.shape[1:]}, the manifest says {shape}"
            )
        return len(block)


class Encoder(_Codec):
    """Writes one input."""

    def __init__(self, buffer: Buffer, size: int) -> None:
        super().__init__(buffer, size)
        quantisation = buffer.quantisation
        if quantisation is None:
            return
        self.real = np.empty((size, self.length), np.float32)
        self.clipped = np.empty((size if quantisation.range else 0, self.length), np.float32)
        limits = np.iinfo(buffer.dtype)
        low, high = quantisation.clip or (limits.min, limits.max)
        self.scale, self.zero = np.float32(quantisation.scale), np.float32(quantisation.zero_point)
        self.low, self.high = np.float32(low), np.float32(high)
        if int(self.high) > limits.max:  # that of int32 rounds up in float32, and would not fit
            self.high = np.nextafter(self.high, np.float32(0))
        self.reach = min(self.high - self.zero, self.zero - self.low)
        self.own = np.full((size, 1), self.scale)
        self.starts = np.arange(size) * self.length

    def encode(self, block: Array, params: Params, codes: Codes) -> None:
        """Write a block's codes, and its scales where the device reads them.

        Raises:
            FloatingPointError: A value is not finite, and no code says so.
            ValueError: The manifest does not fit the operation.
        """
        n = self._fits(block)
        values = block.reshape(n, self.length)
        if self.buffer.quantisation is not None:
            with np.errstate(invalid="raise"):
                self._quantise(values, codes, n)
            if codes.scales is not None:
                np.multiply(self.own[:n], self._factor(params), out=codes.scales[:n])
        elif self.bfloat:
            _to_bfloat16(values, self.bits[:n], codes.values[:n])
        else:
            codes.values[:n] = values

    def _quantise(self, values: Array, codes: Codes, n: int) -> None:
        quantisation, real = self.buffer.quantisation, self.real[:n]
        assert quantisation is not None
        if quantisation.range is not None:
            values = np.clip(values, *quantisation.range, out=self.clipped[:n])
        if quantisation.from_data:
            # Spread out first: NumPy would do it, into memory that it allocates each time.
            np.copyto(real, self._inverses(values, codes, n))
            np.multiply(values, real, out=real)
        else:
            np.multiply(values, 1 / self.scale, out=real)
            np.clip(real, self.low - self.zero, self.high - self.zero, out=real)
        np.rint(real, out=real)
        if self.zero:
            real += self.zero
        codes.values[:n] = real

    def _inverses(self, values: Array, codes: Codes, n: int) -> Array:
        """One over the scale of each item, so that no item's codes depend on its neighbours in the block."""
        magnitudes, own, faint = np.abs(values, out=self.real[:n]), self.own[:n], self.which[:n]
        # The maximum of each row; along an axis NumPy takes half as long again.
        np.maximum.reduceat(magnitudes.reshape(-1), self.starts[:n], out=own[:, 0])
        own /= self.reach
        np.less(own, FAINT, out=faint)
        np.copyto(own, self.scale, where=faint)
        np.divide(own, self.scale, out=codes.gains[:n])
        return np.reciprocal(own, out=self.column[:n])

    def _factor(self, params: Params) -> np.float32:
        name = self.buffer.factor
        if name and name not in params:
            raise ValueError(f"factor = {name!r} of {self.buffer.name!r} is none of {', '.join(params)}")
        return np.float32(params[name] if name else 1.0)


class Decoder(_Codec):
    """Reads the output."""

    def __init__(self, buffer: Buffer, size: int) -> None:
        super().__init__(buffer, size)
        self.spread = np.empty((size, self.length), np.float32)

    def decode(self, codes: Codes, out: Array, inputs: Sequence[Codes]) -> None:
        """The real values of the codes.

        Args:
            codes: What the device wrote.
            out: Where they go, (n, *item_shape).
            inputs: The block's inputs, for their gains.

        Raises:
            RuntimeError, FloatingPointError: The device gave a scale that cannot be.
            ValueError: The manifest does not fit the operation.
        """
        n = self._fits(out)
        real, quantisation = out.reshape(n, self.length), self.buffer.quantisation
        if quantisation is not None:
            real[:] = codes.values[:n]  # not cast by what follows, which would allocate for it
            if quantisation.zero_point:
                real -= np.float32(quantisation.zero_point)
            if codes.scales is None:
                real *= np.float32(quantisation.scale)
            else:
                if not np.isfinite(codes.scales[:n], out=self.which[:n]).all():
                    raise RuntimeError("the device gave a scale of its output that is not finite")
                with np.errstate(over="raise"):
                    real *= self._spread(codes.scales[:n])
        elif self.bfloat:
            _from_bfloat16(codes.values[:n], self.bits[:n], real)
        else:
            real[:] = codes.values[:n]
        if self.buffer.gain == "linear":
            for given in inputs:
                real *= self._spread(given.gains[:n])
        elif self.buffer.gain == "log10_power":
            for given in inputs:
                term = np.log10(given.gains[:n], out=self.column[:n])
                term *= 2
                real += self._spread(term)
        if self.buffer.minimum is not None:
            np.maximum(real, np.float32(self.buffer.minimum), out=real)

    def _spread(self, column: Array) -> Array:
        """One number per item, for each of its elements."""
        spread = self.spread[: len(column)]
        np.copyto(spread, column)
        return spread


def _to_bfloat16(values: Array, bits: Array, codes: Array) -> None:
    """The upper halves of float32, rounded to nearest, halves to even."""
    source = values.view(np.uint32)
    np.right_shift(source, 16, out=bits)
    bits &= 1
    bits += source
    bits += 0x7FFF
    bits >>= 16
    codes[:] = bits


def _from_bfloat16(codes: Array, bits: Array, real: Array) -> None:
    bits[:] = codes
    bits <<= 16
    real[:] = bits.view(np.float32)
