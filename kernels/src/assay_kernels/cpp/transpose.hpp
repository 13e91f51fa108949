// Four by four numbers, rows to columns.
#pragma once

#include "simd.hpp"

namespace assay_kernels::ASSAY_SET {

ASSAY_INLINE void transpose4(Floats<4>& a, Floats<4>& b, Floats<4>& c, Floats<4>& d) {
    const Floats<4> ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
    const Floats<4> ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    const Floats<4> cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    const Floats<4> cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    a = __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5);
    b = __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7);
    c = __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5);
    d = __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7);
}

}  // namespace assay_kernels::ASSAY_SET
