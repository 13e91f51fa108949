// Numbers whose value the compiler doesn't know.
//
// GCC turns `a > b ? a : b` into the CPU's maximum, one instruction, unless it knows one of the two to be a
// constant: then it makes a comparison and a selection of it.
#pragma once

#include "simd.hpp"

namespace assay_kernels::ASSAY_SET {

template <int W>
ASSAY_INLINE Floats<W> hidden(float x) {
    std::int32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    asm("" : "+r"(bits));  // no instruction, but for all the compiler knows it writes `bits`
    std::memcpy(&x, &bits, sizeof bits);
    return splat<W>(x);
}

}  // namespace assay_kernels::ASSAY_SET
