// From power spectra to mel powers.
#pragma once

#include "mel_tables.hpp"
#include "simd.hpp"

namespace assay_kernels::ASSAY_SET {

// The next `count` filters, whose runs have `Length` bins.
template <int Length, int W>
ASSAY_INLINE void apply_runs(int count, const Bin*& first_bin, const float*& weights, const Floats<W>* powers,
                             Floats<W>*& mels) {
    for (; count > 0; --count) {
        const Floats<W>* p = powers + *first_bin++;
        Floats<W> sum = p[0] * weights[0];
        for (int k = 1; k < Length; ++k) sum += p[k] * weights[k];
        weights += Length;
        *mels++ = sum;
    }
}

template <int W, int... I>
ASSAY_INLINE void apply(const MelFilters& filters, const Floats<W>* powers, Floats<W>* mels,
                        std::integer_sequence<int, I...>) {
    const Bin* first_bin = filters.first_bin.data();
    const float* weights = filters.weights.data();
    (apply_runs<I + 1, W>(filters.filters_of_length[I + 1], first_bin, weights, powers, mels), ...);
}

// Mel powers of W frames, frame by lane.
template <int W>
ASSAY_INLINE void apply(const MelFilters& filters, const Floats<W>* powers, Floats<W>* mels) {
    apply<W>(filters, powers, mels, std::make_integer_sequence<int, MelFilters::kLongest>{});
}

}  // namespace assay_kernels::ASSAY_SET
