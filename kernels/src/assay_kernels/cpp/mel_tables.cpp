#include "mel_tables.hpp"

#include <algorithm>
#include <cmath>

namespace assay_kernels::ASSAY_SET {

namespace {

constexpr double kPi = 3.14159265358979323846;
constexpr double kSampleRate = 16000.0;

// Slaney's scale (Auditory Toolbox, 1998): linear to 1000 Hz, then 27 steps to each factor of 6.4.
double mel_to_hz(double mel) {
    const double linear = 200.0 / 3.0;
    return mel < 15.0 ? mel * linear : 1000.0 * std::exp((mel - 15.0) * std::log(6.4) / 27.0);
}

double hz_to_mel(double hz) {
    return hz < 1000.0 ? hz * 3.0 / 200.0 : 15.0 + std::log(hz / 1000.0) * 27.0 / std::log(6.4);
}

}  // namespace

const TransformTables& TransformTables::get() {
    static const TransformTables tables = [] {
        TransformTables t;
        for (int j = 0; j < kLong; ++j) {
            for (int i = 0; i < kShort; ++i) {
                t.window[j][i] = static_cast<float>(0.5 - 0.5 * std::cos(2.0 * kPi * sample_of(i, j) / kFrame));
            }
            for (int i = 0; i <= kShort / 2; ++i) t.bin[i][j] = static_cast<Bin>(bin_of(i, j));
        }
        return t;
    }();
    return tables;
}

MelFilters::MelFilters(int n_mels) {
    std::vector<double> edge(n_mels + 2);
    const double top = hz_to_mel(kSampleRate / 2.0);
    for (int m = 0; m < n_mels + 2; ++m) edge[m] = mel_to_hz(top * m / (n_mels + 1));
    int length = 1;
    for (int m = 0; m < n_mels; ++m) {
        const double low = edge[m], peak = edge[m + 1], high = edge[m + 2];
        const auto weight = [&](int k) {
            const double hz = k * kSampleRate / kFrame;
            return std::max(0.0, std::min((hz - low) / (peak - low), (high - hz) / (high - peak)));
        };
        int first = 0;
        while (weight(first) == 0.0) ++first;
        int end = first;
        while (end < kBins && weight(end) > 0.0) ++end;
        length = std::max(length, end - first);
        first = std::min(first, kBins - length);
        ++filters_of_length[length];
        first_bin.push_back(static_cast<Bin>(first));
        for (int k = first; k < first + length; ++k) {
            weights.push_back(static_cast<float>(weight(k) * 2.0 / (high - low)));
        }
    }
}

const MelFilters& MelFilters::get(int n_mels) {
    static const MelFilters filters_80(80);
    static const MelFilters filters_128(128);
    return n_mels == 80 ? filters_80 : filters_128;
}

}  // namespace assay_kernels::ASSAY_SET
