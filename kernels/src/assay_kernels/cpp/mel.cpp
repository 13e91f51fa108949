#include "mel.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <vector>

#include "denormals.hpp"
#include "mel_columns.hpp"
#include "mel_filter.hpp"
#include "mel_log.hpp"
#include "mel_power.hpp"
#include "mel_tables.hpp"
#include "pool.hpp"

namespace assay_kernels::ASSAY_SET {

namespace {

constexpr int W = kLanes;
using F = Floats<W>;

constexpr float kRange = 8.0f / 4.0f;  // kept below the maximum: eight decades, scaled
constexpr std::size_t kChunk = 128;    // frames to a task: enough to be worth a thread, few enough to share evenly

bool all_finite(const Audio& audio, std::size_t from) {
    if (audio.type == Audio::Sample::int16) return true;
    bool finite = true;
    for (std::size_t i = from; i < audio.samples; ++i) {
        finite &= std::isfinite(sample_at<float>(audio, static_cast<std::ptrdiff_t>(i)));
    }
    return finite;
}

// Whisper's scale, (log10 + 4) / 4.
ASSAY_INLINE F scaled_log(F power) { return floored_log2<W>(power) * (kLog10Of2 / 4.0f) + 1.0f; }

// What is known of some results.
struct Extent {
    F high;  // also at least what it was at first
    F low = splat<W>(std::numeric_limits<float>::max());
    F sum = {};  // of powers: not finite if one of them isn't

    explicit Extent(float high) : high(splat<W>(high)) {}

    ASSAY_INLINE void add(F power, F log) {
        sum += power;
        low = smaller(log, low);
        high = larger(log, high);
    }
};

// A chunk of frames that is done but for the last rise of the floor.
struct Chunk {
    float low;
    bool finite;
};

// The largest result so far, of all threads. The final floor hangs on the last value alone; earlier ones, which may
// come in any order, only save work.
class Highest {
  public:
    float get() const { return value_.load(std::memory_order_relaxed); }
    void raise(float to) {
        float seen = get();
        while (seen < to && !value_.compare_exchange_weak(seen, to, std::memory_order_relaxed)) {
        }
    }

  private:
    std::atomic<float> value_{std::numeric_limits<float>::lowest()};
};

struct Whole {
    const Audio& audio;
    const MelFilters& filters;
    int n_mels;
    bool center;
    std::size_t frames;
    float* out;

    // Scaled logarithms of frames [from, to), floored below the largest that is known by then.
    template <class Sample>
    Chunk run(std::size_t from, std::size_t to, Highest& highest) const {
        const DenormalsAreZero guard;
        const TransformTables& tables = TransformTables::get();
        static const Offsets offsets(Columns<W, Sample>::offset);
        Columns<W, Sample> columns(audio, center);
        Extent extent(highest.get());
        F powers[kBins];
        for (std::size_t f = from; f < to; f += W) {
            if (f == from) {
                columns.start(f);
            } else {
                columns.advance(f);
            }
            // Memory that the hardware doesn't foresee, as the rows of the result and the W columns are far apart.
            // A few lines at a time: the core can only wait for so many.
            const unsigned char* next = columns.samples_of(f + W);
            float* row = out + f;
            int rows_left = n_mels;
            power_spectrum<W>(columns.rows(), offsets, tables, powers, [&](int j) {
                constexpr int kLines = W * kHop * sizeof(float) / 64;
                for (int i = kLines * j / kLong; i < kLines * (j + 1) / kLong; ++i) __builtin_prefetch(next + i * 64);
                for (int i = 0; i < (kMaxMels + kLong - 1) / kLong && rows_left > 0; ++i, --rows_left, row += frames) {
                    __builtin_prefetch(row, 1);
                }
            });
            F mels[kMaxMels];
            apply<W>(filters, powers, mels);
            if (to - f >= W) {
                full_tile(mels, out + f, extent);
            } else {
                part_tile(mels, out + f, static_cast<int>(to - f), extent);
            }
        }
        highest.raise(largest_lane<W>(extent.high));
        return {smallest_lane<W>(extent.low), lanes_finite<W>(extent.sum)};
    }

    void full_tile(const F* mels, float* to, Extent& result) const {
        Extent extent = result;  // a local, to stay in registers
        const F floor = extent.high - kRange;
        const int n = n_mels;
#pragma GCC unroll 2
        for (int m = 0; m < n; ++m) {
            const F log = larger(scaled_log(mels[m]), floor);
            extent.add(mels[m], log);
            store(to + m * frames, log);
        }
        result = extent;
    }

    // The last tile, of which only the first few frames are there: the other lanes repeat the first.
    void part_tile(const F* mels, float* to, int count, Extent& extent) const {
        Ints<W> there;
        for (int i = 0; i < W; ++i) there[i] = i < count ? -1 : 0;
        for (int m = 0; m < n_mels; ++m) {
            const F power = there ? mels[m] : splat<W>(mels[m][0]);
            const F log = scaled_log(power);
            extent.add(power, log);
            for (int i = 0; i < count; ++i) to[m * frames + i] = log[i];
        }
    }

    void floor_at(float floor, std::size_t from, std::size_t to) const {
        for (int m = 0; m < n_mels; ++m) {
            float* row = out + m * frames;
            for (std::size_t f = from; f < to; ++f) row[f] = larger(row[f], floor);
        }
    }
};

}  // namespace

std::size_t mel_frames(std::size_t samples, bool center) {
    if (center) return samples > kFrame / 2 ? samples / kHop : 0;
    return samples >= kFrame ? (samples - kFrame) / kHop + 1 : 0;
}

MelStatus log_mel(const Audio& audio, int n_mels, bool center, int threads, float* out) {
    const std::size_t frames = mel_frames(audio.samples, center);
    const Whole whole{audio, MelFilters::get(n_mels), n_mels, center, frames, out};
    std::vector<Chunk> chunks((frames + kChunk - 1) / kChunk);
    Highest highest;
    Pool& pool = Pool::instance();
    const auto end = [&](std::size_t i) { return std::min(frames, (i + 1) * kChunk); };
    pool.run(threads, chunks.size(), [&](std::size_t i) {
        chunks[i] = audio.type == Audio::Sample::float32 ? whole.run<float>(i * kChunk, end(i), highest)
                                                         : whole.run<std::int16_t>(i * kChunk, end(i), highest);
    });

    bool finite = true;
    for (const Chunk& chunk : chunks) finite = finite && chunk.finite;
    // The last samples may be in no frame; the others have been seen in the sums.
    const std::size_t tail = audio.samples - std::min<std::size_t>(audio.samples, kFrame);
    if (!finite || !all_finite(audio, tail)) return all_finite(audio, 0) ? MelStatus::overflow : MelStatus::not_finite;

    const float floor = highest.get() - kRange;
    if (std::all_of(chunks.begin(), chunks.end(), [&](const Chunk& chunk) { return chunk.low >= floor; })) {
        return MelStatus::done;
    }
    pool.run(threads, chunks.size(), [&](std::size_t i) {
        if (chunks[i].low < floor) whole.floor_at(floor, i * kChunk, end(i));
    });
    return MelStatus::done;
}

}  // namespace assay_kernels::ASSAY_SET
