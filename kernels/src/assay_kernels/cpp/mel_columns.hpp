// The signal with its samples across: what lets neighbouring frames be the lanes of a vector.
//
// Sample p of column c is sample 160 c + p of the padded signal y, so sample n of frame f is in row n % 160, at
// column f + n / 160. Each sample is transposed once, and W neighbouring frames are one load.
#pragma once

#include <algorithm>

#include "mel.hpp"
#include "mel_tables.hpp"
#include "mel_transpose.hpp"
#include "simd.hpp"

namespace assay_kernels::ASSAY_SET {

ASSAY_INLINE float as_float(float x) { return x; }
ASSAY_INLINE float as_float(std::int16_t x) { return x * (1.0f / 32768.0f); }

template <class Sample>
ASSAY_INLINE float sample_at(const Audio& audio, std::ptrdiff_t i) {
    Sample x;
    std::memcpy(&x, audio.data + i * audio.stride, sizeof x);
    return as_float(x);
}

// The columns of one tile of W frames after the other. A tile reads W columns and the two after them, which are
// the next tile's first.
template <int W, class Sample>
class Columns {
  public:
    static constexpr int kHalo = (kFrame - 1) / kHop;
    static constexpr int kPitch = W + 8;  // of the rows: with 8 lanes, no load or store crosses a cache line

    // Where sample n of the tile's frames is in the rows.
    static constexpr int offset(int n) { return n % kHop * kPitch + n / kHop; }

    Columns(const Audio& audio, bool center)
        : audio_(audio), pad_(center ? kFrame / 2 : 0), in_place_(audio.stride == sizeof(Sample)) {}

    // Takes the columns of the tile that starts at frame f.
    void start(std::size_t f) {
        fill(f, rows_);
        fill(f + kHalo, rows_ + kHalo);
    }
    // The same, if the tile before was the last taken.
    void advance(std::size_t f) {
        for (int p = 0; p < kHop; ++p) std::memcpy(rows_ + p * kPitch, rows_ + p * kPitch + W, kHalo * sizeof(float));
        fill(f + kHalo, rows_ + kHalo);
    }
    // The samples that advance(f) will take, or about there: only to be prefetched.
    const unsigned char* samples_of(std::size_t f) const {
        return audio_.data + static_cast<std::ptrdiff_t>((f + kHalo) * kHop) * audio_.stride;
    }

    const float* rows() const { return rows_; }

  private:
    void fill(std::size_t column, float* rows) {
        const std::ptrdiff_t first = static_cast<std::ptrdiff_t>(column * kHop) - pad_;
        const std::ptrdiff_t end = first + W * kHop;
        if (in_place_ && first >= 0 && end <= static_cast<std::ptrdiff_t>(audio_.samples)) {
            transpose<W>(reinterpret_cast<const Sample*>(audio_.data) + first, kHop, kHop, rows, kPitch);
        } else {
            float copy[W * kHop];
            copy_columns(first, end, copy);
            transpose<W>(copy, kHop, kHop, rows, kPitch);
        }
    }

    // Samples [first, end) where the signal is reflected, or isn't plain. Beyond the padding no frame that counts
    // has samples: zeros.
    void copy_columns(std::ptrdiff_t first, std::ptrdiff_t end, float* copy) const {
        const std::ptrdiff_t samples = static_cast<std::ptrdiff_t>(audio_.samples);
        const auto put = [&](std::ptrdiff_t from, std::ptrdiff_t to, const auto& sample) {
            for (std::ptrdiff_t i = std::max(from, first); i < std::min(to, end); ++i) copy[i - first] = sample(i);
        };
        const auto at = [&](std::ptrdiff_t i) { return sample_at<Sample>(audio_, i); };
        put(first, 0, [&](std::ptrdiff_t i) { return at(-i); });
        put(0, samples, at);
        put(samples, samples + pad_, [&](std::ptrdiff_t i) { return at(2 * (samples - 1) - i); });
        put(samples + pad_, end, [](std::ptrdiff_t) { return 0.0f; });
    }

    const Audio audio_;
    const std::ptrdiff_t pad_;
    const bool in_place_;
    alignas(64) float rows_[kHop * kPitch];
};

}  // namespace assay_kernels::ASSAY_SET
