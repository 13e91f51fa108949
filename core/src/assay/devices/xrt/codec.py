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


class _Codec:
    """One input or output in the host's side of its buffer, for blocks of up to ``size`` items."""

    def __init__(self, buffer: Buffer, region: Region, scale: Region | None, size: int) -> None:
        self.buffer = buffer
        self.bfloat = buffer.dtype == "bfloat16"
        dtype = np.dtype(np.uint16 if self.bfloat else buffer.dtype)
        self.length = int(np.prod(buffer.item_shape))
        self.codes = region.array(dtype, (size, self.length))
        self.bits = np.empty(self.codes.shape, np.uint32) if self.bfloat else None
        self.column = np.ones((size, 1), np.float32)  # scratch: one number per item
        self.scales: Array | None = None
        """Where the device reads or writes the scales of the items, (size, 1), if it does."""
        if scale is not None:
            self.scales = scale.array(FLOAT32, (size, 1))
        elif buffer.scales_behind:
            self.scales = region.array(FLOAT32, (size, 1), start=self.codes.nbytes)
        if self.scales is not None:
            self.scales[:] = 1

    def _fits(self, block: Array) -> int:
        """The number of items in a block of the operation's."""
        shape = self.buffer.item_shape
        if block.shape[1:] != shape:
            raise ValueError(
                f"items of {self.buffer.name!r} have shape {block.shape[1:]}, the manifest says {shape}"
            )
        return len(block)


class Encoder(_Codec):
    """Writes the codes of one input."""

    def __init__(self, buffer: Buffer, region: Region, scale: Region | None, size: int) -> None:
        super().__init__(buffer, region, scale, size)
        self.gains: Array | None = None
        """Per item, the scale that was taken from the data over the one that the design was made for."""
        quantisation = buffer.quantisation
        if quantisation is None:
            return
        self.real = np.empty(self.codes.shape, np.float32)
        self.clipped = np.empty_like(self.real) if quantisation.range else None
        limits = np.iinfo(buffer.dtype)
        low, high = quantisation.clip or (limits.min, limits.max)
        self.scale, self.zero = np.float32(quantisation.scale), np.float32(quantisation.zero_point)
        self.low, self.high = np.float32(low), np.float32(high)
        if self.high > limits.max:  # that of int32 rounds up in float32, and would not fit
            self.high = np.nextafter(self.high, np.float32(0))
        self.reach = min(self.high - self.zero, self.zero - self.low)
        self.own = np.full((size, 1), self.scale)
        self.faint = np.empty((size, 1), bool)
        self.starts = np.arange(size) * self.length
        if quantisation.from_data:
            self.gains = np.ones((size, 1), np.float32)

    def encode(self, block: Array, params: Params) -> None:
        """Write a block's codes, and its scales where the device reads them.

        Raises:
            FloatingPointError: A value is not finite, and no code says so.
            ValueError: The manifest does not fit the operation.
        """
        n = self._fits(block)
        codes, quantisation = self.codes[:n], self.buffer.quantisation
        values = block.reshape(codes.shape)
        if quantisation is None:
            if self.bits is None:
                codes[:] = values
            else:
                _to_bfloat16(values, self.bits[:n], codes)
            return
        real = self.real[:n]
        if quantisation.range is not None:
            assert self.clipped is not None
            values = np.clip(values, *quantisation.range, out=self.clipped[:n])
        if quantisation.from_data:
            np.multiply(values, self._inverses(values, n), out=real)
        else:
            np.multiply(values, 1 / self.scale, out=real)
            np.clip(real, self.low - self.zero, self.high - self.zero, out=real)
        np.rint(real, out=real)
        if self.zero:
            real += self.zero
        if quantisation.from_data:
            codes[:] = real
        else:
            with np.errstate(invalid="raise"):  # a NaN
                codes[:] = real
        if self.scales is not None:
            np.multiply(self.own[:n], self._factor(params), out=self.scales[:n])

    def _inverses(self, values: Array, n: int) -> Array:
        """One over the scale of each item, so that no item's codes depend on its neighbours in the block."""
        magnitudes, own = np.abs(values, out=self.real[:n]), self.own[:n]
        # The maximum of each row; along an axis NumPy takes half as long again.
        np.maximum.reduceat(magnitudes.reshape(-1), self.starts[:n], out=own[:, 0])
        if not own.max() < np.inf:
            raise FloatingPointError(f"{self.buffer.name!r} holds values that are not finite")
        own /= self.reach
        np.less(own, FAINT, out=self.faint[:n])
        np.copyto(own, self.scale, where=self.faint[:n])
        if self.gains is not None:
            np.divide(own, self.scale, out=self.gains[:n])
        return np.reciprocal(own, out=self.column[:n])

    def _factor(self, params: Params) -> np.float32:
        name = self.buffer.factor
        if name and name not in params:
            raise ValueError(f"factor = {name!r} of {self.buffer.name!r} is none of {', '.join(params)}")
        return np.float32(params[name] if name else 1.0)


class Decoder(_Codec):
    """Reads the codes of the output."""

    def __init__(self, buffer: Buffer, region: Region, scale: Region | None, size: int) -> None:
        super().__init__(buffer, region, scale, size)
        self.finite = np.empty((size, 1), bool)

    def decode(self, out: Array, gains: Sequence[Array]) -> None:
        """The real values of the codes.

        Raises:
            RuntimeError: The device gave a scale that is not finite.
            ValueError: The manifest does not fit the operation.
        """
        n = self._fits(out)
        codes, quantisation = self.codes[:n], self.buffer.quantisation
        real = out.reshape(codes.shape)
        if quantisation is None:
            if self.bits is None:
                real[:] = codes
            else:
                _from_bfloat16(codes, self.bits[:n], real)
        else:
            scale = np.float32(quantisation.scale) if self.scales is None else self.scales[:n]
            if self.scales is not None and not np.isfinite(scale, out=self.finite[:n]).all():
                raise RuntimeError("the device gave a scale of its output that is not finite")
            np.multiply(codes, scale, out=real)
            if quantisation.zero_point:
                real -= np.multiply(scale, quantisation.zero_point)
        for gain in gains:
            if self.buffer.gain == "linear":
                real *= gain[:n]
            elif self.buffer.gain == "log10_power":
                term = np.log10(gain[:n], out=self.column[:n])
                term *= 2
                real += term
        if self.buffer.minimum is not None:
            np.maximum(real, np.float32(self.buffer.minimum), out=real)


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
