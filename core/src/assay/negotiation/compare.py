"""Holds a result against the float64 reference, and says what a wrong one looks like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.contract.candidate import Measurement
from assay.contract.operation import Array, Tolerance


@dataclass(frozen=True, slots=True)
class Comparison:
    """The measured error of one result; ``wrong`` is empty when it is within the tolerance."""

    measurement: Measurement
    wrong: str = ""
    where: tuple[int, ...] = (0,)
    """The element that came closest to its limit, or went furthest beyond it."""


def compare(
    name: str,
    got: Array,
    expected: NDArray[np.float64],
    tolerance: Tolerance,
    before: Array | None = None,
) -> Comparison:
    """Compare element by element; where the reference is not finite, both must be the same.

    Args:
        name: The probe's name, for the measurement.
        got: The kernel's result.
        expected: The reference's result, float64, of the same shape.
        tolerance: The operation's tolerance for this probe.
        before: The kernel's result of the call before, to recognise a stale buffer.
    """
    if expected.size == 0:
        return Comparison(Measurement(name, 0.0, 1.0))
    values = np.asarray(got, dtype=np.float64)
    limit = np.broadcast_to(np.asarray(tolerance.max_abs, dtype=np.float64), expected.shape)
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs(values - expected)
        if not np.isfinite(error).all():
            same = (values == expected) | (np.isnan(values) & np.isnan(expected))
            error = np.where(same, 0.0, np.where(np.isfinite(expected), error, np.inf))
            error = np.where(np.isnan(error), np.inf, error)
    share = error / np.maximum(limit, np.finfo(np.float64).tiny)
    worst = int(np.argmax(share))
    rms = float(np.sqrt(np.mean(np.square(np.minimum(error, 1e150)))))
    measurement = Measurement(
        probe=name,
        max_abs=float(error.flat[worst]),
        limit=float(limit.flat[worst]),
        rms=rms,
        rms_limit=tolerance.rms,
    )
    where = tuple(int(i) for i in np.unravel_index(worst, expected.shape))
    if measurement.share <= 1.0:
        return Comparison(measurement, where=where)
    if share.flat[worst] > 1.0:
        what = (
            f"error {error.flat[worst]:.2g} at {where} (got {values.flat[worst]:.6g}, "
            f"expected {expected.flat[worst]:.6g}), admitted {limit.flat[worst]:.2g}"
        )
    else:
        what = f"root mean square error {rms:.2g}, admitted {tolerance.rms:.2g}"
    looks = diagnose(values, expected, before)
    return Comparison(measurement, f"{what}; it looks like {looks}" if looks else what, where)


def diagnose(got: NDArray[np.float64], expected: NDArray[np.float64], before: Array | None = None) -> str:
    """What a wrong result looks like, in words that its author can act on; "" when nothing fits."""
    if np.isnan(got).any() and not np.isnan(expected).any():
        rows = np.isnan(got).reshape(len(got), -1).any(axis=1) if got.ndim else np.isnan(got)
        if got.ndim and not rows.all():
            return f"rows that were never written: {_ranges(np.flatnonzero(rows))} of {len(got)}"
        return "an output that was never written, or NaN from the kernel"
    if not np.isfinite(got).all():
        return "overflow: there are infinities"
    if not got.any() and expected.any():
        return "zeros"
    if got.size > 1 and np.ptp(got) == 0 and np.ptp(expected) > 0:
        return f"a constant ({got.flat[0]:.6g})"
    if before is not None and before.shape == got.shape and np.array_equal(before, got):
        return "a stale buffer: the result of the call before"
    if got.ndim > 1 and len(got) > 1 and (swapped := _swapped(got, expected)):
        return swapped
    if got.size < 8 or np.ptp(expected) == 0:
        return ""
    lines = ((got, "row"), (got.T, "column")) if got.ndim == 2 else ()
    by_line = (_by_line(a, b, what) for (a, what), b in zip(lines, (expected, expected.T), strict=False))
    flat = got.ravel(), expected.ravel()
    return next(filter(None, (_shifted(got, expected), _affine(*flat), *by_line, _noise(*flat))), "")


def _swapped(got: NDArray[np.float64], expected: NDArray[np.float64]) -> str:
    """Whether every row is some row of the reference, but not its own."""
    rows, wanted = got.reshape(len(got), -1), expected.reshape(len(expected), -1)
    if not 1 < len(rows) <= 256:
        return ""
    scale = max(float(np.abs(wanted).max()), 1e-30)
    moved = []
    for index, row in enumerate(rows):
        distance = np.abs(wanted - row).max(axis=1)
        nearest = int(np.argmin(distance))
        if distance[nearest] > 1e-3 * scale:
            return ""
        if nearest != index and distance[index] > 10 * distance[nearest] + 1e-6 * scale:
            moved.append(nearest)
    if not moved:
        return ""
    return "swapped rows" if len(set(moved)) == len(moved) else "repeated rows"


def _affine(got: NDArray[np.float64], expected: NDArray[np.float64]) -> str:
    """A scale, an offset, or noise around the right answer."""
    slope, offset = np.polyfit(expected, got, 1)
    left = float(np.std(got - (slope * expected + offset)))
    if left > 0.02 * float(np.std(got)):
        return ""
    if abs(slope - 1) > 0.02:
        return f"a wrong or missing scale: {slope:.4g} times the expected values"
    if abs(offset) > 3 * left:
        return f"an offset of {offset:.4g}"
    return f"the right answer with noise of {left:.2g}"


def _noise(got: NDArray[np.float64], expected: NDArray[np.float64]) -> str:
    """Values that correlate with the expected ones no more than they would with random signs."""
    products = (got - got.mean()) * (expected - expected.mean())
    together = float(np.std(got) * np.std(expected)) * products.size
    chance = float(np.sqrt(np.sum(np.square(products)))) / together if together else 0.0
    if together and abs(float(products.sum())) / together > min(0.8, max(0.2, 4 * chance)):
        return ""
    return "noise: it has nothing to do with the expected values"


def _by_line(got: NDArray[np.float64], expected: NDArray[np.float64], what: str) -> str:
    """A scale or an offset that differs from line to line, as when the items' own scales are lost."""
    if got.shape[1] < 8:
        return ""
    wanted = expected - expected.mean(axis=1, keepdims=True)
    found = got - got.mean(axis=1, keepdims=True)
    power = np.sum(wanted**2, axis=1)
    if not power.all():
        return ""
    slopes = np.sum(found * wanted, axis=1) / power
    left = np.std(found - slopes[:, None] * wanted, axis=1)
    if (left > 0.02 * np.std(found, axis=1)).any() or not slopes.all():
        return ""
    if np.abs(slopes - 1).max() > 0.02:
        return f"a wrong or missing scale: each {what} has a factor, {slopes.min():.3g} to {slopes.max():.3g}"
    return f"an offset: each {what} has one of its own"


def _shifted(got: NDArray[np.float64], expected: NDArray[np.float64]) -> str:
    if got.ndim < 1 or got.shape[-1] < 4:
        return ""
    scale = float(np.std(expected))
    for by in (1, -1):
        a, b = (got[..., by:], expected[..., :-by]) if by > 0 else (got[..., :by], expected[..., -by:])
        if float(np.std(a - b)) < 1e-2 * scale:
            return f"a shift by {by} along the last axis"
    return ""


def _ranges(rows: NDArray[Any]) -> str:
    first, last = int(rows[0]), int(rows[-1])
    return (
        str(first)
        if first == last
        else f"{first} to {last}"
        if last - first + 1 == len(rows)
        else f"{len(rows)}"
    )
