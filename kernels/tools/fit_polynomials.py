"""Fit the polynomials of the kernels and print the header that holds them.

    python kernels/tools/fit_polynomials.py > kernels/src/assay_kernels/cpp/polynomials.hpp

Needs NumPy and SciPy. What they approximate:

- 2^f for |f| <= 1/2, as 1 + f g(f), with the least relative error.
- GELU (erf) is max(x, 0) - a q(a) with a = |x| and q(a) = Phi(-a), the lower tail of the normal distribution.
  log2 q is close to a parabola, so one polynomial in a does for all of it: exactly -1 at 0, fitted to the
  absolute error of GELU where that counts, and only roughly further down, where q fades out of float32.
- For sets with a look-up of 16 floats in registers, q itself: polynomials in t, |t| <= 1/2, on 15 equal
  intervals centred at k * width, and zero on the sixteenth, which is all the rest. The tanh form of GELU has
  the same shape with q(a) = 1 / (1 + exp(2 sqrt(2/pi) (a + 0.044715 a^3))), so it has such a table too.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, log_ndtr, ndtr

Doubles = NDArray[np.float64]

LN2 = float(np.log(2))
FADED = -126.9
"""log2 of a number that the kernels' exp2 turns into zero: -127 is an exponent of zero bits only."""

INTERVALS = 15
LIMIT = 6.0
"""Where the tables end: a q(a) is 5.9e-9 there."""


def erf_tail(a: Doubles) -> Doubles:
    """Return Phi(-a)."""
    return np.asarray(ndtr(-a), dtype=np.float64)


def tanh_tail(a: Doubles) -> Doubles:
    """Return what takes the place of Phi(-a) in the tanh form."""
    return np.asarray(expit(-2 * np.sqrt(2 / np.pi) * (a + 0.044715 * a**3)), dtype=np.float64)


def chebyshev_points(count: int, low: float, high: float) -> Doubles:
    """Return points that lie closer together towards both ends."""
    angles = np.pi * (np.arange(count) + 0.5) / count
    return np.asarray((low + high) / 2 + (high - low) / 2 * np.cos(angles), dtype=np.float64)


def minimax(basis: Doubles, target: Doubles, weight: Doubles) -> Doubles:
    """Return the coefficients with the least largest weighted error.

    Lawson's method: least squares, the importance of a point multiplied by its error until all are level.
    """
    importance = np.full(len(target), 1 / len(target))
    for _ in range(300):
        scale = np.sqrt(importance) * weight
        coefficients = np.linalg.lstsq(basis * scale[:, None], target * scale, rcond=None)[0]
        importance *= np.abs(basis @ coefficients - target) * weight
        importance /= importance.sum()
    return np.asarray(coefficients, dtype=np.float64)


def exp2_polynomial(degree: int) -> Doubles:
    """Return the coefficients of 1 + c1 f + ... that is near 2^f for |f| <= 1/2, from 1 up."""
    f = chebyshev_points(500, -0.5, 0.5)
    rest = minimax(f[:, None] ** np.arange(1, degree + 1), 2**f - 1, 2**-f)
    return np.concatenate([[1.0], rest])


def log_erf_tail_polynomial(degree: int) -> tuple[Doubles, float]:
    """Return the polynomial near log2 Phi(-a) and where it has faded out."""
    a = chebyshev_points(1500, 0, 13.1)
    target = log_ndtr(-a) / LN2
    felt = a * erf_tail(a) * LN2  # what an error of 1 does to GELU
    # Powers of a / 8, so that the columns have like sizes.
    scaled = minimax((a[:, None] / 8) ** np.arange(1, degree + 1), target + 1, np.maximum(felt, 3e-8))
    coefficients = np.concatenate([[-1.0], scaled / 8.0 ** np.arange(1, degree + 1)])
    polynomial = np.polynomial.Polynomial(coefficients)
    return coefficients, float(brentq(lambda x: polynomial(x) - FADED, 10, 16))


def tanh_exponent() -> tuple[float, float, float]:
    """Return c1 and c3 of the tanh form's tail 1 / (1 + 2^(c1 a + c3 a^3)), and where that has faded out."""
    c1 = 2 * np.sqrt(2 / np.pi) / LN2
    c3 = 0.044715 * c1
    return c1, c3, float(brentq(lambda a: c1 * a + c3 * a**3 - 128, 5, 15))


def interval_table(tail: Callable[[Doubles], Doubles], degree: int) -> Doubles:
    """Return the coefficients of each power of t, lowest first, for every interval: (degree + 1, 16)."""
    width = LIMIT / (INTERVALS - 0.5)
    t = chebyshev_points(50 * (degree + 1), -0.5, 0.5)
    powers = t[:, None] ** np.arange(degree + 1)
    rows = [
        minimax(powers, target, 1 / target) for target in (tail((k + t) * width) for k in range(INTERVALS))
    ]
    return np.vstack([*rows, np.zeros(degree + 1)]).T


def spell(values: Doubles) -> str:
    """Return float32 literals, exact to the last bit."""
    return ", ".join(f"{float(np.float32(value)).hex().replace('0000000p', 'p')}f" for value in values)


def main() -> None:
    """Print the header."""
    log_erf, fades = log_erf_tail_polynomial(6)
    print("// Written by tools/fit_polynomials.py, which says what these are. Lowest powers first.")
    print('#pragma once\n\n#include "simd.hpp"\n\nnamespace assay_kernels::ASSAY_SET {\n')
    print(f"inline constexpr float kExp2[] = {{{spell(exp2_polynomial(5))}}};\n")
    print(f"inline constexpr float kLogErfTail[] = {{{spell(log_erf)}}};")
    print(f"inline constexpr float kLogErfTailFades = {spell(np.array([fades]))};\n")
    c1, c3, fades = tanh_exponent()
    print(f"inline constexpr float kTanhExponent[] = {{{spell(np.array([c1, c3]))}}};  // of a, of a^3")
    print(f"inline constexpr float kTanhTailFades = {spell(np.array([fades]))};\n")
    print(f"inline constexpr float kTableWidth = {spell(np.array([LIMIT / (INTERVALS - 0.5)]))};")
    for name, tail in (("Erf", erf_tail), ("Tanh", tanh_tail)):
        table = interval_table(tail, 5)
        rows = "".join(f"    {{{spell(row)}}},\n" for row in table)
        print(f"inline constexpr float k{name}Table[{len(table)}][{INTERVALS + 1}] = {{\n{rows}}};")
    print("\n}  // namespace assay_kernels::ASSAY_SET")


if __name__ == "__main__":
    main()
