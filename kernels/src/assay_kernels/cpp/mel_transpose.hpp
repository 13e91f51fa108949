// Transposing as it is read: what was one after the other in memory becomes the lanes of vectors.
#pragma once

#include <cstddef>
#include <cstdint>

#include "simd.hpp"

namespace assay_kernels::ASSAY_SET {

template <int W, int... I>
ASSAY_INLINE Floats<W> interleave_low(Floats<W> a, Floats<W> b, std::integer_sequence<int, I...>) {
    return __builtin_shufflevector(a, b, (I / 4 * 4 + I % 4 / 2 + I % 2 * W)...);
}
template <int W, int... I>
ASSAY_INLINE Floats<W> interleave_high(Floats<W> a, Floats<W> b, std::integer_sequence<int, I...>) {
    return __builtin_shufflevector(a, b, (I / 4 * 4 + 2 + I % 4 / 2 + I % 2 * W)...);
}
template <int W, int... I>
ASSAY_INLINE Floats<W> pair_low(Floats<W> a, Floats<W> b, std::integer_sequence<int, I...>) {
    return __builtin_shufflevector(a, b, (I / 4 * 4 + I % 2 + I % 4 / 2 * W)...);
}
template <int W, int... I>
ASSAY_INLINE Floats<W> pair_high(Floats<W> a, Floats<W> b, std::integer_sequence<int, I...>) {
    return __builtin_shufflevector(a, b, (I / 4 * 4 + 2 + I % 2 + I % 4 / 2 * W)...);
}

// Transposes each 4 x 4 block of four rows.
template <int W>
ASSAY_INLINE void transpose4(Floats<W> r[4]) {
    constexpr auto lanes = std::make_integer_sequence<int, W>{};
    const Floats<W> a = interleave_low<W>(r[0], r[1], lanes), b = interleave_high<W>(r[0], r[1], lanes);
    const Floats<W> c = interleave_low<W>(r[2], r[3], lanes), d = interleave_high<W>(r[2], r[3], lanes);
    r[0] = pair_low<W>(a, c, lanes);
    r[1] = pair_high<W>(a, c, lanes);
    r[2] = pair_low<W>(b, d, lanes);
    r[3] = pair_high<W>(b, d, lanes);
}

template <class Half, int... I>
ASSAY_INLINE auto join(Half a, Half b, std::integer_sequence<int, I...>) {
    return __builtin_shufflevector(a, b, I...);
}

// Groups of four samples, `step` samples apart, as one vector.
template <int W>
ASSAY_INLINE Floats<W> gather4(const float* from, std::ptrdiff_t step) {
    if constexpr (W == 4) {
        return load<Floats<W>>(from);
    } else {
        return join(gather4<W / 2>(from, step), gather4<W / 2>(from + W / 8 * step, step),
                    std::make_integer_sequence<int, W>{});
    }
}

template <int W>
ASSAY_INLINE Floats<W> gather4(const std::int16_t* from, std::ptrdiff_t step) {
    if constexpr (W == 4) {
        const auto wide = __builtin_convertvector(load<Shorts<W>>(from), Ints<W>);
        return __builtin_convertvector(wide, Floats<W>) * (1.0f / 32768.0f);
    } else {
        return join(gather4<W / 2>(from, step), gather4<W / 2>(from + W / 8 * step, step),
                    std::make_integer_sequence<int, W>{});
    }
}

// Transposes W columns of `length` samples each (a multiple of four), `step` samples apart, to rows `pitch` apart.
template <int W, class Sample>
ASSAY_INLINE void transpose(const Sample* from, std::ptrdiff_t step, int length, float* rows, std::ptrdiff_t pitch) {
    for (int p = 0; p < length; p += 4) {
        Floats<W> r[4];
        for (int i = 0; i < 4; ++i) r[i] = gather4<W>(from + i * step + p, 4 * step);
        transpose4<W>(r);
        for (int i = 0; i < 4; ++i) store(rows + (p + i) * pitch, r[i]);
    }
}

}  // namespace assay_kernels::ASSAY_SET
