"""The operation ``attention``: its signature, what it accepts, and how far a result may be off."""

from __future__ import annotations

import math
import operator
from typing import Any, cast

import assay
import numpy as np
from numpy.typing import NDArray

from assay_attention.pairs import resolve, split
from assay_attention.probes import probes
from assay_attention.reference import reference
from assay_attention.sizes import Inputs, sizes

DTYPES = frozenset({"float32", "float64", "float16"})


def attention(
    q: NDArray[Any],
    k: NDArray[Any],
    v: NDArray[Any],
    *,
    mask: NDArray[Any] | None = None,
    causal: bool = False,
    causal_offset: int = 0,
    scale: float | None = None,
    softcap: float = 0.0,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """softmax(cap(q k^T scale) + mask) v for each head, as ONNX ``Attention`` (opset 23, later) defines it.

    Args:
        q: (..., heads, length, depth) with any leading axes, or (length, depth); float32, float64 or float16.
        k: (..., key heads, keys, depth), of the same leading axes and dtype. Where there are fewer key heads
            than heads, each serves heads / key heads neighbouring ones.
        v: (..., key heads, keys, value depth).
        mask: Broadcasts to (..., heads, length, keys). Boolean: True where a key takes part. Of the dtype of
            ``q``: added to the scores; minus infinity leaves a key out.
        causal: Query i sees keys 0 to i + ``causal_offset`` only (aligned top left, also where there are more
            keys than queries).
        causal_offset: The number of keys before the first query's own, for cached decoding; may be negative.
        scale: Factor of the scores; None: 1 / sqrt(depth).
        softcap: c > 0 replaces every score s by c tanh(s / c), before the mask; 0: scores stay.
        out: Where the result is written.

    Returns:
        (..., heads, length, value depth), or (length, value depth), in the dtype of ``q``. A query that sees
        no key gives zeros. NaN and infinities in q, k or v spread to what they reach.

    Raises:
        InvalidInput: Shapes, dtypes or parameters that do not fit together.
    """
    raise NotImplementedError("this is a signature; run it with Runtime().op('attention')")


def infer(
    q: NDArray[Any],
    k: NDArray[Any],
    v: NDArray[Any],
    *,
    mask: NDArray[Any] | None = None,
    causal: bool = False,
    causal_offset: int = 0,
    scale: float | None = None,
    softcap: float = 0.0,
) -> assay.Spec:
    """The result's shape and dtype, once everything about a request fits together."""
    if q.dtype.name not in DTYPES or k.dtype != q.dtype or v.dtype != q.dtype:
        raise assay.InvalidInput(
            f"attention: q has dtype {q.dtype}, k {k.dtype}, v {v.dtype}; expected one dtype for all three, "
            f"of {', '.join(sorted(DTYPES))}"
        )
    size = sizes(q.shape, k.shape, v.shape)
    if mask is not None:
        _check_mask(mask, q, size.scores if q.ndim > 2 else size.scores[1:])
    if not isinstance(causal, bool | np.bool_):
        raise assay.InvalidInput(f"attention: causal={causal!r}, expected True or False")
    try:
        operator.index(causal_offset)
    except TypeError:
        raise assay.InvalidInput(
            f"attention: causal_offset={causal_offset!r}, expected a whole number"
        ) from None
    if scale is not None and not _is_finite(scale):
        raise assay.InvalidInput(f"attention: scale={scale!r}, expected a finite number, or None")
    if not _is_finite(softcap) or softcap < 0:
        raise assay.InvalidInput(f"attention: softcap={softcap!r}, expected a finite number from 0")
    return assay.Spec(size.result, q.dtype)


def _check_mask(mask: NDArray[Any], q: NDArray[Any], scores: tuple[int, ...]) -> None:
    if mask.dtype != np.bool_ and mask.dtype != q.dtype:
        raise assay.InvalidInput(
            f"attention: mask has dtype {mask.dtype}, expected bool (True takes part) or the dtype of q, "
            f"{q.dtype} (added to the scores)"
        )
    try:
        fits = np.broadcast_shapes(mask.shape, scores) == scores
    except ValueError:
        fits = False
    if not fits:
        raise assay.InvalidInput(
            f"attention: mask has shape {mask.shape}, which does not broadcast to {scores}: "
            "the axes of q without its depth, then the keys"
        )


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except TypeError:
        return False


def tolerance(
    kind: str,
    inputs: assay.Arrays,
    params: assay.Params,
    expected: NDArray[np.float64],
    accuracy: assay.Accuracy,
) -> assay.Tolerance:
    """Relative to the largest value in v where that is above 1.

    Exact: 2e-6 as long as every score stays within 6, beyond that 2e-6 times the largest score / 3, since
    rounding a score shifts its weight by as much; a float16 result may be off by 2 units in its last place.
    Approximate: 2 %.
    """
    q, k, v, _ = cast("Inputs", inputs)
    largest = float(np.abs(v).max(initial=0.0))
    score = largest_score(q, k) * abs(params["scale"] or 1 / math.sqrt(q.shape[-1]))
    limit: float | NDArray[Any] = 2e-6 * (score / 3 if score > 6 else 1) * max(largest, 1.0)
    if accuracy is assay.Accuracy.APPROXIMATE:
        limit = max(limit, 0.02 * largest)
    if q.dtype == np.float16:
        limit = np.maximum(limit, 2 * np.spacing(np.abs(expected).astype(np.float16)).astype(np.float64))
    return assay.Tolerance(limit)


def largest_score(q: NDArray[Any], k: NDArray[Any]) -> float:
    """The largest magnitude in q k^T over all heads, in float32: it only sizes a tolerance."""
    size = sizes(q.shape, k.shape, k.shape)
    queries = q.reshape(-1, size.group * size.length, size.depth) if q.size else q.reshape(0, 1, size.depth)
    keys = k.reshape(-1, size.keys, size.depth) if k.size else k.reshape(0, 1, size.depth)
    return max(
        (
            float(np.abs(a.astype(np.float32, copy=False) @ b.T.astype(np.float32, copy=False)).max())
            for a, b in zip(queries, keys, strict=False)
        ),
        default=0.0,
    )


def multiply_adds(inputs: assay.Arrays, params: assay.Params) -> float:
    """What the two products of every query and key take."""
    q, k, v, _ = cast("Inputs", inputs)
    size = sizes(q.shape, k.shape, v.shape)
    return float(math.prod(size.scores)) * (size.depth + size.value_depth)


def standard(rng: np.random.Generator) -> assay.Probe:
    """8 heads of 448 queries and keys, depth 64: a decoder's longest text in speech recognition."""
    q, k, v = (rng.standard_normal((8, 448, 64), dtype=np.float32) for _ in range(3))
    return assay.Probe("standard", (q, k, v, None), dict(ATTENTION.defaults))


ATTENTION = assay.Operation(
    name="attention",
    version="1",
    signature=attention,
    inputs=(
        assay.Input("q", dtypes=DTYPES),
        assay.Input("k", dtypes=DTYPES),
        assay.Input("v", dtypes=DTYPES),
        assay.Input("mask", dtypes=DTYPES | {"bool"}, optional=True),
    ),
    infer=infer,
    reference=reference,
    probes=probes,
    tolerance=tolerance,
    standard=standard,
    presets={"latency": 1, "balanced": 8, "throughput": 64, "single": 1},
    items=assay.ItemForm(split=split, reference=reference, params=resolve, chooses_shape=True),
    converts={"float16": ("float32",)},
    work=multiply_adds,
    work_unit="multiply-adds",
    description="scaled dot-product attention: grouped heads, masks, causal with an offset, softcap",
)
