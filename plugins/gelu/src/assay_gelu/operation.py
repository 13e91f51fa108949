"""The operation ``gelu``: its signature, what it accepts, and how far a result may be off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import assay
import numpy as np
from numpy.typing import NDArray

from assay_gelu.probes import probes
from assay_gelu.reference import reference
from assay_gelu.rows import split

APPROXIMATIONS = ("none", "tanh")

EPSILON: Mapping[str, float] = {
    "float64": 2.0**-52,
    "float32": 2.0**-23,
    "float16": 2.0**-10,
    "bfloat16": 2.0**-7,
}
"""The accepted dtypes by name (NumPy knows bfloat16 through ml_dtypes only), each with the distance from
1 to the next number."""


def gelu(x: NDArray[Any], *, approximate: str = "none", out: NDArray[Any] | None = None) -> NDArray[Any]:
    """The Gaussian error linear unit of every element, as ONNX ``Gelu`` defines it.

    Args:
        x: Any shape, empty and 0-d too; float32, float64, float16 or bfloat16.
        approximate: "none": x Phi(x), with the Gaussian's distribution function Phi;
            "tanh": its approximation x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
        out: Where the result is written: an array of the shape and dtype of ``x``.

    Returns:
        An array of the shape and dtype of ``x``. NaN gives NaN. The implementations written in this project
        give 0 at minus infinity, the limit; some libraries give NaN at infinities.

    Raises:
        InvalidInput: A dtype or a value of ``approximate`` that is not among these.
    """
    raise NotImplementedError("this is a signature; run it with Runtime().op('gelu')")


def infer(x: NDArray[Any], *, approximate: str = "none") -> assay.Spec:
    """The result's shape and dtype: those of ``x``."""
    if x.dtype.name not in EPSILON:
        raise assay.InvalidInput(
            f"gelu: x has dtype {x.dtype.name}, expected one of {', '.join(EPSILON)}; "
            "convert it, for example with x.astype(numpy.float32)"
        )
    if approximate not in APPROXIMATIONS:
        raise assay.InvalidInput(
            f"gelu: approximate={approximate!r}, expected {' or '.join(map(repr, APPROXIMATIONS))}"
        )
    return assay.Spec(x.shape, x.dtype)


def tolerance(
    kind: str,
    inputs: assay.Arrays,
    params: assay.Params,
    expected: NDArray[np.float64],
    accuracy: assay.Accuracy,
) -> assay.Tolerance:
    """Exact: 2e-6 or 4 units in the last place of the result, the larger.

    Approximate: 1 % of the output's range, counted from 0, where that is larger.
    """
    x = inputs[0]
    assert x is not None
    fraction, exponent = np.frexp(expected)
    ulp = np.where(fraction == 0, 0, np.ldexp(EPSILON[x.dtype.name], exponent - 1))
    limit = np.maximum(2e-6, 4 * ulp)
    if accuracy is assay.Accuracy.APPROXIMATE and expected.size:
        # From 0, so that a request of one element has a range too.
        spread = max(float(expected.max()), 0.0) - min(float(expected.min()), 0.0)
        limit = np.maximum(limit, 0.01 * spread)
    return assay.Tolerance(limit)


def standard(rng: np.random.Generator) -> assay.Probe:
    """1,024 rows of 1,536, the hidden width of a speech encoder: more than second-level caches hold."""
    x = 2 * rng.standard_normal((1024, 1536), dtype=np.float32)
    return assay.Probe("standard", (x,), {"approximate": "none"})


GELU = assay.Operation(
    name="gelu",
    version="1",
    signature=gelu,
    inputs=(assay.Input("x", dtypes=frozenset(EPSILON)),),
    infer=infer,
    reference=reference,
    probes=probes,
    tolerance=tolerance,
    standard=standard,
    presets={"latency": 1, "balanced": 16, "throughput": 256, "single": 1},
    items=assay.ItemForm(split=split, reference=reference, chooses_shape=True),
    converts={"float16": ("float32",), "bfloat16": ("float32",)},
    description="Gaussian error linear unit, exact or by tanh, element by element",
)
