// 2^x = 2^n 2^f with n whole and |f| <= 1/2.
#pragma once

#include "polynomials.hpp"
#include "simd.hpp"

namespace assay_kernels::ASSAY_SET {

template <int W>
struct Exp2Parts {
    Floats<W> power;     // 2^n; zero for n = -127 and infinite for n = 128
    Floats<W> fraction;  // f
};

// Of x * unit, which lies between -127.4 and 128.4. NaN gives a fraction that is NaN.
template <int W>
ASSAY_INLINE Exp2Parts<W> split_exp2(Floats<W> x, float unit = 1.0f) {
    // Adding 1.5 * 2^23 rounds to a whole number, which is then in the low bits; 127 more make it a float's exponent.
    constexpr float kRound = 12582912.0f + 127.0f;
    const Floats<W> rounded = x * unit + kRound;
    return {floats_of<W>(bits_of<W>(rounded) << 23), x * unit - (rounded - kRound)};
}

// (2^f - 1) / f
template <int W>
ASSAY_INLINE Floats<W> exp2_slope(Floats<W> f) {
    return (((kExp2[5] * f + kExp2[4]) * f + kExp2[3]) * f + kExp2[2]) * f + kExp2[1];
}

// 2^f to 9.2e-8 of itself; exactly 1 at 0.
template <int W>
ASSAY_INLINE Floats<W> exp2_fraction(Floats<W> f) {
    return exp2_slope<W>(f) * f + kExp2[0];
}

}  // namespace assay_kernels::ASSAY_SET
