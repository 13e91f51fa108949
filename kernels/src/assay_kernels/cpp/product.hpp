// Products of a block of columns in lanes with numbers that are broadcast: both products of attention.
#pragma once

#include <cstddef>

#include "simd.hpp"

namespace assay_kernels::ASSAY_SET {

// A matrix whose element (row, i) is at first[row * row_step + i * step].
struct Broadcast {
    const float* first;
    std::size_t row_step;
    std::size_t step;
};

// How many rows at a time: with M vectors of columns, as many sums as the registers hold next to their operands.
template <int W, int M>
inline constexpr int kRowsAtOnce = W == 16 ? 8 : M == 1 ? 8 : 4;

// c[row][column] = c[row][column] * factor[column] + sum over i < n of a[i][column] * b(row, i), for M vectors of
// columns and every row < rows. Without `factor`, c is only written.
template <int W, int M, int R = kRowsAtOnce<W, M>>
ASSAY_INLINE void multiply(float* c, const float* factor, const float* a, std::size_t n, Broadcast b,
                           std::size_t rows) {
    std::size_t row = 0;
    for (; row + R <= rows; row += R) {
        Floats<W> sum[R][M] = {};
        const float* from = b.first + row * b.row_step;
        for (std::size_t i = 0; i < n; ++i, from += b.step) {
            Floats<W> columns[M];
            for (int m = 0; m < M; ++m) columns[m] = load<Floats<W>>(a + (i * M + m) * W);
            for (int r = 0; r < R; ++r) {
                const float number = from[r * b.row_step];
                for (int m = 0; m < M; ++m) sum[r][m] += columns[m] * number;
            }
        }
        for (int r = 0; r < R; ++r) {
            for (int m = 0; m < M; ++m) {
                float* to = c + ((row + r) * M + m) * W;
                if (factor != nullptr) sum[r][m] += load<Floats<W>>(to) * load<Floats<W>>(factor + m * W);
                store(to, sum[r][m]);
            }
        }
    }
    if constexpr (R > 1) {
        if (row < rows) {
            b.first += row * b.row_step;
            multiply<W, M, R / 2>(c + row * M * W, factor, a, n, b, rows - row);
        }
    }
}

}  // namespace assay_kernels::ASSAY_SET
