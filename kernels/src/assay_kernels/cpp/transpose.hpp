// Rows to columns and back, four by four.
#pragma once

#include <cstddef>

#include "simd.hpp"

namespace assay_kernels::ASSAY_SET {

ASSAY_INLINE void transpose4(Floats<4> (&rows)[4]) {
    const Floats<4> low_01 = __builtin_shufflevector(rows[0], rows[1], 0, 4, 1, 5);
    const Floats<4> high_01 = __builtin_shufflevector(rows[0], rows[1], 2, 6, 3, 7);
    const Floats<4> low_23 = __builtin_shufflevector(rows[2], rows[3], 0, 4, 1, 5);
    const Floats<4> high_23 = __builtin_shufflevector(rows[2], rows[3], 2, 6, 3, 7);
    rows[0] = __builtin_shufflevector(low_01, low_23, 0, 1, 4, 5);
    rows[1] = __builtin_shufflevector(low_01, low_23, 2, 3, 6, 7);
    rows[2] = __builtin_shufflevector(high_01, high_23, 0, 1, 4, 5);
    rows[3] = __builtin_shufflevector(high_01, high_23, 2, 3, 6, 7);
}

// to[i * Columns + column] = float number i of rows[column] times factor, i < n; the rows may be misaligned.
template <std::size_t Columns>
void gather_rows(float* to, const unsigned char* const* rows, std::size_t n, float factor) {
    std::size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        for (std::size_t column = 0; column < Columns; column += 4) {
            Floats<4> part[4];
            for (int r = 0; r < 4; ++r) part[r] = load<Floats<4>>(rows[column + r] + i * sizeof(float)) * factor;
            transpose4(part);
            for (int r = 0; r < 4; ++r) store(to + (i + r) * Columns + column, part[r]);
        }
    }
    for (; i < n; ++i) {
        for (std::size_t column = 0; column < Columns; ++column) {
            to[i * Columns + column] = load<float>(rows[column] + i * sizeof(float)) * factor;
        }
    }
}

// to[column * n + i] = from[i * Columns + column] for i < n and column < count.
template <std::size_t Columns>
void scatter_rows(float* to, std::size_t count, const float* from, std::size_t n) {
    std::size_t column = 0;
    for (; column + 4 <= count; column += 4) {
        std::size_t i = 0;
        for (; i + 4 <= n; i += 4) {
            Floats<4> part[4];
            for (int r = 0; r < 4; ++r) part[r] = load<Floats<4>>(from + (i + r) * Columns + column);
            transpose4(part);
            for (int r = 0; r < 4; ++r) store(to + (column + r) * n + i, part[r]);
        }
        for (; i < n; ++i) {
            for (int r = 0; r < 4; ++r) to[(column + r) * n + i] = from[i * Columns + column + r];
        }
    }
    for (; column < count; ++column) {
        for (std::size_t i = 0; i < n; ++i) to[column * n + i] = from[i * Columns + column];
    }
}

}  // namespace assay_kernels::ASSAY_SET
