// What the log-mel kernel looks up: made once, in double precision, from the definitions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace assay_kernels::ASSAY_SET {

inline constexpr int kFrame = 400;  // samples: 25 ms at 16 kHz
inline constexpr int kHop = 160;    // samples: 10 ms
inline constexpr int kBins = kFrame / 2 + 1;
inline constexpr int kMaxMels = 128;

// 400 = 16 x 25, coprime: sample 25 i + 16 j (mod 400) is element (i, j) of a two-dimensional transform of
// 16 x 25 points with no twiddle factors between its stages, and bin k is its element (k mod 16, k mod 25).
// (I. J. Good 1958, L. H. Thomas 1963.)
inline constexpr int kShort = 16;
inline constexpr int kLong = 25;

constexpr int sample_of(int i, int j) { return (25 * i + 16 * j) % kFrame; }

// The bin at (i, j), or its mirror image: a real signal has the same power at k and 400 - k.
constexpr int bin_of(int i, int j) {
    // 225 is 1 mod 16 and 0 mod 25; 176 the other way round.
    const int k = (225 * i + 176 * j) % kFrame;
    return k < kBins ? k : kFrame - k;
}

using Bin = std::uint8_t;
using Offset = std::int16_t;

struct TransformTables {
    float window[kLong][kShort];              // periodic Hann, at sample_of
    Bin bin[kShort / 2 + 1][kLong];  // bin_of

    static const TransformTables& get();
};

// Triangular filters on Slaney's mel scale, 0 to 8000 Hz, each of area one in Hz (librosa's defaults).
//
// Nearly all weights are zero, so a filter is a run of bins. Runs are made to grow from filter to filter (a few
// weights of zero do that), so that filters of one length stand together and their loops have a fixed length.
struct MelFilters {
    static constexpr int kLongest = 16;

    int filters_of_length[kLongest + 1] = {};
    std::vector<Bin> first_bin;  // of each filter's run
    std::vector<float> weights;           // of all runs, one after the other

    explicit MelFilters(int n_mels);
    static const MelFilters& get(int n_mels);  // 80 or 128
};

}  // namespace assay_kernels::ASSAY_SET
