// Logarithm to base 2 of positive, normal float32 numbers: within 4e-7 of the exact one.
#pragma once

#include "simd.hpp"

namespace assay_kernels::ASSAY_SET {

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

}  // namespace assay_kernels::ASSAY_SET
