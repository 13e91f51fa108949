#include <atomic>
#include <cmath>

#include "denormals.hpp"
#include "mel.hpp"
#include "mel_filter.hpp"
#include "mel_log.hpp"
#include "mel_power.hpp"
#include "mel_tables.hpp"
#include "mel_transpose.hpp"
#include "pool.hpp"

namespace assay_kernels::ASSAY_SET {

namespace {

constexpr int W = kLanes;
using F = Floats<W>;

constexpr std::size_t kChunk = 128;  // frames to a task

float sample_at(const Frames& frames, std::size_t f, int n) {
    float x;
    std::memcpy(&x, frames.data + static_cast<std::ptrdiff_t>(f) * frames.frame_stride + n * frames.sample_stride, 4);
    return x;
}

// Some frames after the other, W at a time.
struct ItemBlocks {
    const Frames& frames;
    const MelFilters& filters;
    int n_mels;
    float* out;

    // Logarithms of frames [from, to); false if one of their powers isn't finite.
    bool run(std::size_t from, std::size_t to) const {
        const DenormalsAreZero guard;
        const TransformTables& tables = TransformTables::get();
        static const Offsets offsets([](int n) { return n * W; });
        F sum = {};
        alignas(64) float samples[kFrame * W];
        F powers[kBins], mels[kMaxMels];
        for (std::size_t f = from; f < to; f += W) {
            const int count = static_cast<int>(std::min<std::size_t>(W, to - f));
            read(f, count, samples);
            power_spectrum<W>(samples, offsets, tables, powers, [](int) {});
            apply<W>(filters, powers, mels);
            for (int m = 0; m < n_mels; ++m) {
                sum += mels[m];
                mels[m] = floored_log2<W>(mels[m]) * kLog10Of2;
            }
            write(mels, count, out + f * static_cast<std::size_t>(n_mels));
        }
        return lanes_finite<W>(sum);
    }

    // Frames [f, f + count) by lane, zeros in the lanes beyond.
    void read(std::size_t f, int count, float* samples) const {
        const unsigned char* first = frames.data + static_cast<std::ptrdiff_t>(f) * frames.frame_stride;
        const bool whole_floats = frames.frame_stride % static_cast<std::ptrdiff_t>(sizeof(float)) == 0;
        if (count == W && frames.sample_stride == sizeof(float) && whole_floats) {
            const std::ptrdiff_t step = frames.frame_stride / static_cast<std::ptrdiff_t>(sizeof(float));
            transpose<W>(reinterpret_cast<const float*>(first), step, kFrame, samples, W);
            return;
        }
        float copy[W * kFrame] = {};
        for (int i = 0; i < count; ++i) {
            for (int n = 0; n < kFrame; ++n) copy[i * kFrame + n] = sample_at(frames, f + i, n);
        }
        transpose<W>(copy, kFrame, kFrame, samples, W);
    }

    // The first `count` lanes as rows, one frame after the other.
    void write(const F* mels, int count, float* to) const {
        for (int m = 0; m < n_mels; m += 4) {
            F r[4] = {mels[m], mels[m + 1], mels[m + 2], mels[m + 3]};
            transpose4<W>(r);  // r[i] has frames i, i + 4, ... of four mels each
            for (int f = 0; f < count; ++f) {
                std::memcpy(to + f * n_mels + m, reinterpret_cast<const float*>(&r[f % 4]) + f / 4 * 4, 16);
            }
        }
    }
};

}  // namespace

MelStatus log_mel_frames(const Frames& frames, int n_mels, int threads, float* out) {
    const ItemBlocks blocks{frames, MelFilters::get(n_mels), n_mels, out};
    std::atomic<bool> all_good{true};
    Pool::instance().run(threads, (frames.frames + kChunk - 1) / kChunk, [&](std::size_t i) {
        if (!blocks.run(i * kChunk, std::min(frames.frames, (i + 1) * kChunk))) all_good.store(false);
    });
    if (all_good) return MelStatus::done;
    for (std::size_t f = 0; f < frames.frames; ++f) {
        for (int n = 0; n < kFrame; ++n) {
            if (!std::isfinite(sample_at(frames, f, n))) return MelStatus::not_finite;
        }
    }
    return MelStatus::overflow;
}

}  // namespace assay_kernels::ASSAY_SET
