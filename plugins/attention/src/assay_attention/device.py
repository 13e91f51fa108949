"""One tile of attention in the fixed-point arithmetic of an NPU: 64 queries, 64 keys, 64 deep.

A host function over device memory, for kernels that run on ``assay.testing.simxrt``: it stands for a compiled
design and computes bit for bit what integer hardware would. Queries and keys are int16, since int8 scores are
too coarse once they are large; values and result are int8, which is where most of a tile's error is (0.4 % of
the largest value each).

How its bytes are to be read belongs into a kernel manifest: real value = code x scale. The scales of q, k, v
and the result are float32, one per item or one for all, and **stand behind the codes in the same buffer**, so
that five buffers are enough. The mask's is fixed: ``MASK_SCALE``. The factor of the scores belongs into the
scale of q.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]

TILE = 64
"""Queries, keys, depth and depth of the values."""
MASK_SCALE = 1 / 512
"""What one step of the mask adds to a score; it reaches from -64 to 64."""
HIDDEN = -32768
"""The mask's code that leaves a key out; minus infinity, rounded and clipped, becomes this."""

SCORE_BITS = 16  # fraction bits of a score, in powers of two
MANTISSA_BITS = 24  # of the scores' factor
WEIGHT_BITS = 24  # fraction bits of a weight; the largest in a row is 1
KNOT_BITS = 8  # knots of 2^x from 0 to 1, as a power of two
RECIPROCAL_BITS = 46
MASK_BITS = 8  # fraction bits of what one step of the mask is on the scores' scale

MASK_STEP = round(math.log2(math.e) * MASK_SCALE * (1 << (SCORE_BITS + MASK_BITS)))


@cache
def _knots() -> Integers:
    """2^x from 0 to 1 in steps of 1/256, in units of 2^-24."""
    steps = range((1 << KNOT_BITS) + 1)
    return np.array([round(2.0 ** (i / (1 << KNOT_BITS)) * (1 << WEIGHT_BITS)) for i in steps], np.int64)


def attention_tile(q: Bytes, k: Bytes, v: Bytes, mask: Bytes, result: Bytes) -> None:
    """Compute ``softmax(q k^T + mask) v`` for a block of pairs, as device memory holds it.

    Args:
        q: int16 (n, 64, 64), then float32 (n,) or (1,): their scales, which hold the scores' factor too.
        k: int16 (n, 64, 64), then its scales.
        v: int8 (n, 64, 64), then its scales.
        mask: int16 (n, 64, 64) in steps of ``MASK_SCALE``; ``HIDDEN`` leaves a key out.
        result: int8 (n, 64, 64), then its scales, which are those of v; written. A query that sees no key
            gives zeros.
    """
    biases = mask.view(np.int16).reshape(-1, TILE, TILE).astype(np.int64)
    queries, query_scales = _parts(q, np.int16, len(biases))
    keys, key_scales = _parts(k, np.int16, len(biases))
    values, value_scales = _parts(v, np.int8, len(biases))
    codes, result_scales = _parts(result, np.int8, len(biases))
    # float64 holds sums of 64 products of 30 bits exactly, and NumPy multiplies it faster.
    products = queries.astype(np.float64) @ keys.astype(np.float64).transpose(0, 2, 1)
    factors = query_scales.astype(np.float64) * key_scales.astype(np.float64) * math.log2(math.e)
    scores = _scaled(products.astype(np.int64), factors)
    scores += (biases * MASK_STEP + (1 << (MASK_BITS - 1))) >> MASK_BITS
    weights = _exp2(scores, biases != HIDDEN)
    sums = (weights.astype(np.float64) @ values.astype(np.float64)).astype(np.int64)
    reciprocals = (1 << RECIPROCAL_BITS) // np.maximum(weights.sum(axis=2, keepdims=True), 1)
    codes[:] = (sums * reciprocals + (1 << (RECIPROCAL_BITS - 1))) >> RECIPROCAL_BITS
    result_scales[:] = value_scales


def _parts(buffer: Bytes, dtype: type, items: int) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32]]:
    """The codes of a buffer, and the scales behind them."""
    end = items * TILE * TILE * np.dtype(dtype).itemsize
    return buffer[:end].view(dtype).reshape(items, TILE, TILE), buffer[end:].view(np.float32)


def _scaled(products: Integers, factors: npt.NDArray[np.float64]) -> Integers:
    """Products of codes times their items' factors: scores in powers of two, in units of 2^-16."""
    mantissa, exponent = np.frexp(factors)
    whole = np.floor(mantissa * (1 << MANTISSA_BITS)).astype(np.int64)[:, None, None]
    right = np.clip(MANTISSA_BITS - SCORE_BITS - exponent.astype(np.int64), 1, 62)[:, None, None]
    scores: Integers = (products * whole + (np.int64(1) << (right - 1))) >> right
    return scores


def _exp2(scores: Integers, seen: npt.NDArray[np.bool_]) -> Integers:
    """2^(score - largest of the row), in units of 2^-24; 0 for keys that are not seen."""
    lowest = np.iinfo(np.int64).min // 2
    largest = np.where(seen, scores, lowest).max(axis=2, keepdims=True)
    below = np.where(seen, np.maximum(scores - largest, -(32 << SCORE_BITS)), 0)
    whole, fraction = below >> SCORE_BITS, below & (1 << SCORE_BITS) - 1
    rest_bits = SCORE_BITS - KNOT_BITS
    knots, knot = _knots(), fraction >> rest_bits
    rise = (knots[knot + 1] - knots[knot]) * (fraction & (1 << rest_bits) - 1)
    power = knots[knot] + ((rise + (1 << (rest_bits - 1))) >> rest_bits)
    return np.where(seen, power >> -whole, 0)


def quantise(x: npt.NDArray[Any], dtype: type, *, factor: float = 1.0) -> npt.NDArray[np.uint8]:
    """What a host puts into a buffer: codes of real values (n, 64, 64), then a float32 scale for each item.

    Args:
        x: Real values.
        dtype: ``numpy.int16`` for q and k, ``numpy.int8`` for v.
        factor: What the device is to multiply the values by: for q, the factor of the scores.
    """
    largest = np.abs(x).max(axis=(1, 2))
    scales = np.where(largest > 0, largest, 1.0) / np.iinfo(dtype).max
    codes: npt.NDArray[Any] = np.rint(x / scales[:, None, None]).astype(dtype)
    return np.concatenate([codes.view(np.uint8).ravel(), (scales * factor).astype(np.float32).view(np.uint8)])


def quantise_mask(mask: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """The bytes of an additive mask (n, 64, 64)."""
    steps: npt.NDArray[Any] = np.clip(np.rint(mask / MASK_SCALE), HIDDEN, -HIDDEN - 1)
    return steps.astype(np.int16).view(np.uint8).ravel()


def dequantise(buffer: Bytes, items: int) -> npt.NDArray[np.float32]:
    """The real values, float32 (n, 64, 64), of a result's buffer."""
    codes, scales = _parts(buffer, np.int8, items)
    real: npt.NDArray[np.float32] = codes * scales[:, None, None]
    return real
