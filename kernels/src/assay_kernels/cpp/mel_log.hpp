// Logarithms of float32 numbers.
#pragma once

#include "simd.hpp"

namespace assay_kernels::ASSAY_SET {

// Logarithm to base 2 of positive, normal numbers: within 4e-7 of the exact one.
template <int W>
ASSAY_INLINE Floats<W> log2(Floats<W> x) {
    // x = m 2^e with m between the square roots of 1/2 and 2, by integer arithmetic on the bits of x.
    constexpr std::int32_t kSqrtHalfBits = 0x3f3504f3;
    const Ints<W> shifted = bits_of<W>(x) - kSqrtHalfBits;
    const Ints<W> e = shifted >> 23;
    const Floats<W> z = floats_of<W>(bits_of<W>(x) - (e << 23)) - 1.0f;
    // log2(1 + z) / z, least maximum of the absolute error of log2 over that interval (3.0e-7).
    Floats<W> p = z * 0.17063403f - 0.27269799f;
    p = p * z + 0.29726271f;
    p = p * z - 0.35896185f;
    p = p * z + 0.48046502f;
    p = p * z - 0.72137588f;
    p = p * z + 1.4426997f;
    return p * z + __builtin_convertvector(e, Floats<W>);
}

inline constexpr float kLog10Of2 = 0.30102999566398119521f;

// log2(max(x, 1e-10)); as much for NaN.
template <int W>
ASSAY_INLINE Floats<W> floored_log2(Floats<W> x) {
    return log2<W>(larger(x, splat<W>(1e-10f)));
}

}  // namespace assay_kernels::ASSAY_SET
