#include "mel.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "denormals.hpp"
#include "mel_columns.hpp"
#include "mel_log.hpp"
#include "mel_power.hpp"
#include "mel_tables.hpp"
#include "pool.hpp"

namespace assay_kernels::ASSAY_SET {

namespace {

constexpr int W = kLanes;
using F = Floats<W>;

constexpr int kMaxMels = 128;
constexpr int kPad = kFrame / 2;
constexpr float kFloor = 1e-10f;
constexpr float kLog10Of2 = 0.30102999566398119521f;
constexpr float kRange = 8.0f;  // decades kept below the maximum

// A tile is W frames. It reads W + 2 columns: those of two vectors, the second of which is the next tile's first.
constexpr int kPitch = 2 * W;
constexpr std::size_t kChunk = 128;  // frames to a task: enough to be worth a thread, few enough to share evenly

struct Offsets {
    std::int32_t offset[kLong][kShort];

    template <class Rule>
    explicit Offsets(Rule rule) {
        for (int j = 0; j < kLong; ++j) {
            for (int i = 0; i < kShort; ++i) offset[j][i] = rule(sample_of(i, j));
        }
    }
};

const Offsets& column_offsets() {
    static const Offsets offsets([](int n) { return n % kHop * kPitch + n / kHop; });
    return offsets;
}

const Offsets& frame_offsets() {
    static const Offsets offsets([](int n) { return n * W; });
    return offsets;
}

float sample_at(const Audio& audio, std::size_t i) {
    const unsigned char* at = audio.data + static_cast<std::ptrdiff_t>(i) * audio.stride;
    if (audio.type == Audio::Sample::float32) {
        float x;
        std::memcpy(&x, at, sizeof x);
        return x;
    }
    std::int16_t x;
    std::memcpy(&x, at, sizeof x);
    return x * (1.0f / 32768.0f);
}

bool all_finite(const Audio& audio, std::size_t from) {
    if (audio.type == Audio::Sample::int16) return true;
    for (std::size_t i = from; i < audio.samples; ++i) {
        if (!std::isfinite(sample_at(audio, i))) return false;
    }
    return true;
}

// What is known of the mel powers of some frames.
struct Extent {
    F max = splat<W>(kFloor);
    F sum = {};  // not finite if one of them isn't

    ASSAY_INLINE void add(F power) {
        max = larger(power, max);
        sum += power;
    }
};

float largest(F v) {
    float x = v[0];
    for (int i = 1; i < W; ++i) x = std::max(x, v[i]);
    return x;
}

bool finite(F v) {
    for (int i = 0; i < W; ++i) {
        if (!std::isfinite(v[i])) return false;
    }
    return true;
}

template <int Length>
ASSAY_INLINE void apply_runs(int count, const std::int32_t*& first_bin, const float*& weights, const F* powers, F*& mels) {
    for (; count > 0; --count) {
        const F* p = powers + *first_bin++;
        F sum = p[0] * weights[0];
        for (int k = 1; k < Length; ++k) sum += p[k] * weights[k];
        weights += Length;
        *mels++ = sum;
    }
}

template <int... I>
ASSAY_INLINE void apply(const MelFilters& filters, const F* powers, F* mels, std::integer_sequence<int, I...>) {
    const std::int32_t* first_bin = filters.first_bin.data();
    const float* weights = filters.weights.data();
    (apply_runs<I + 1>(filters.filters_of_length[I + 1], first_bin, weights, powers, mels), ...);
}

// Mel powers of W frames.
ASSAY_INLINE void apply(const MelFilters& filters, const F* powers, F* mels) {
    apply(filters, powers, mels, std::make_integer_sequence<int, MelFilters::kLongest>{});
}

// Whisper's scale, log10 / 4 + 1.
ASSAY_INLINE F scaled_log(F power) { return log2<W>(larger(splat<W>(kFloor), power)) * (kLog10Of2 / 4.0f) + 1.0f; }

// The columns of one tile after the other.
class Columns {
  public:
    Columns(const Audio& audio, bool center) : audio_(audio), pad_(center ? kPad : 0) {
        const std::ptrdiff_t size = audio.type == Audio::Sample::float32 ? 4 : 2;
        in_place_ = audio.stride == size;
    }

    // Makes the tile that starts at frame f the current one.
    void start(std::size_t f) { fill(f, rows_); fill(f + W, rows_ + W); }
    // The same for the frames after the current ones, the next of which start at f.
    void advance(std::size_t f) {
        for (int p = 0; p < kHop; ++p) store(rows_ + p * kPitch, load<F>(rows_ + p * kPitch + W));
        fill(f + W, rows_ + W);
    }

    const float* rows() const { return rows_; }

  private:
    void fill(std::size_t column, float* rows);
    void fill_at_edge(std::ptrdiff_t first, float* rows);

    const Audio& audio_;
    std::ptrdiff_t pad_;
    bool in_place_;
    alignas(64) float rows_[kHop * kPitch];
};

void Columns::fill(std::size_t column, float* rows) {
    const std::ptrdiff_t first = static_cast<std::ptrdiff_t>(column * kHop) - pad_;
    const std::ptrdiff_t end = first + W * kHop;
    if (!in_place_ || first < 0 || end > static_cast<std::ptrdiff_t>(audio_.samples)) return fill_at_edge(first, rows);
    if (audio_.type == Audio::Sample::float32) {
        transpose<W>(reinterpret_cast<const float*>(audio_.data) + first, kHop, kHop, rows, kPitch);
    } else {
        transpose<W>(reinterpret_cast<const std::int16_t*>(audio_.data) + first, kHop, kHop, rows, kPitch);
    }
}

// Where the signal is reflected, or isn't plain: through a copy of these columns. Beyond the padding no frame that
// counts has samples: zeros.
void Columns::fill_at_edge(std::ptrdiff_t first, float* rows) {
    const std::ptrdiff_t samples = static_cast<std::ptrdiff_t>(audio_.samples);
    float copy[W * kHop];
    for (std::ptrdiff_t i = 0; i < W * kHop; ++i) {
        std::ptrdiff_t at = first + i;
        if (at < 0) at = -at;
        if (at >= samples) at = 2 * (samples - 1) - at;
        const bool inside = at >= 0 && first + i < samples + pad_;
        copy[i] = inside ? sample_at(audio_, static_cast<std::size_t>(at)) : 0.0f;
    }
    transpose<W>(copy, kHop, kHop, rows, kPitch);
}

struct Whole {
    const Audio& audio;
    const MelFilters& filters;
    bool center;
    int n_mels;
    std::size_t frames;
    float* out;

    // Scaled logarithms of frames [from, to), not floored.
    Extent run(std::size_t from, std::size_t to) const {
        const TransformTables& tables = TransformTables::get();
        const Offsets& offsets = column_offsets();
        Columns columns(audio, center);
        Extent extent;
        F powers[kBins], mels[kMaxMels];
        for (std::size_t f = from; f < to; f += W) {
            if (f == from) {
                columns.start(f);
            } else {
                columns.advance(f);
            }
            power_spectrum<W>(columns.rows(), offsets.offset, tables, powers);
            apply(filters, powers, mels);
            if (to - f >= W) {
                full_tile(mels, out + f, extent);
            } else {
                part_tile(mels, out + f, static_cast<int>(to - f), extent);
            }
        }
        return extent;
    }

    void full_tile(const F* mels, float* to, Extent& result) const {
        Extent extent = result;  // a local, to stay in registers
        const int n = n_mels;
#pragma GCC unroll 2
        for (int m = 0; m < n; ++m) {
            extent.add(mels[m]);
            store(to + m * frames, scaled_log(mels[m]));
        }
        result = extent;
    }

    // The last tile, of which only the first few frames are there.
    void part_tile(const F* mels, float* to, int count, Extent& extent) const {
        for (int m = 0; m < n_mels; ++m) {
            F power = mels[m];
            for (int i = count; i < W; ++i) power[i] = 0.0f;
            extent.add(power);
            const F log = scaled_log(power);
            std::memcpy(to + m * frames, &log, static_cast<std::size_t>(count) * sizeof(float));
        }
    }
};

float sample_at(const Frames& frames, std::size_t f, int n) {
    float x;
    std::memcpy(&x, frames.data + static_cast<std::ptrdiff_t>(f) * frames.frame_stride + n * frames.sample_stride, 4);
    return x;
}

struct ItemBlocks {
    const Frames& frames;
    const MelFilters& filters;
    int n_mels;
    float* out;

    // Logarithms of frames [from, to); false if one of their powers isn't finite.
    bool run(std::size_t from, std::size_t to) const {
        const TransformTables& tables = TransformTables::get();
        const Offsets& offsets = frame_offsets();
        Extent extent;
        alignas(64) float samples[kFrame * W];
        F powers[kBins], mels[kMaxMels];
        for (std::size_t f = from; f < to; f += W) {
            const int count = static_cast<int>(std::min<std::size_t>(W, to - f));
            read(f, count, samples);
            power_spectrum<W>(samples, offsets.offset, tables, powers);
            apply(filters, powers, mels);
            for (int m = 0; m < n_mels; ++m) {
                extent.add(mels[m]);
                mels[m] = log2<W>(larger(splat<W>(kFloor), mels[m])) * kLog10Of2;
            }
            write(mels, count, out + f * static_cast<std::size_t>(n_mels));
        }
        return finite(extent.sum);
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

void raise_to(std::atomic<float>& max, float value) {
    float seen = max.load(std::memory_order_relaxed);
    while (seen < value && !max.compare_exchange_weak(seen, value, std::memory_order_relaxed)) {
    }
}

}  // namespace

std::size_t mel_frames(std::size_t samples, bool center) {
    if (center) return samples > kPad ? samples / kHop : 0;
    return samples >= kFrame ? (samples - kFrame) / kHop + 1 : 0;
}

MelStatus log_mel(const Audio& audio, int n_mels, bool center, int threads, float* out) {
    const std::size_t frames = mel_frames(audio.samples, center);
    const Whole whole{audio, MelFilters::get(n_mels), center, n_mels, frames, out};
    // A task must not depend on the number of threads; with one thread a single task does the same arithmetic.
    const std::size_t chunk = threads > 1 ? kChunk : frames;
    std::atomic<float> max{kFloor};
    std::atomic<bool> all_good{true};
    Pool& pool = Pool::instance();
    pool.run(threads, (frames + chunk - 1) / chunk, [&](std::size_t i) {
        const DenormalsAreZero guard;
        const Extent extent = whole.run(i * chunk, std::min(frames, (i + 1) * chunk));
        raise_to(max, largest(extent.max));
        if (!finite(extent.sum)) all_good.store(false, std::memory_order_relaxed);
    });
    // The last samples may be in no frame; the others have been seen in the sums.
    const std::size_t tail = audio.samples - std::min<std::size_t>(audio.samples, kFrame);
    if (!all_good || !all_finite(audio, tail)) return all_finite(audio, 0) ? MelStatus::overflow : MelStatus::not_finite;

    const F floor = scaled_log(splat<W>(max)) - kRange / 4.0f;
    constexpr std::size_t kBlock = 1 << 16;
    const std::size_t size = frames * static_cast<std::size_t>(n_mels);
    pool.run(threads, (size + kBlock - 1) / kBlock, [&](std::size_t i) {
        const std::size_t end = std::min(size, (i + 1) * kBlock);
        std::size_t at = i * kBlock;
        for (; at + W <= end; at += W) store(out + at, larger(load<F>(out + at), floor));
        for (; at < end; ++at) out[at] = std::max(out[at], floor[0]);
    });
    return MelStatus::done;
}

MelStatus log_mel_frames(const Frames& frames, int n_mels, int threads, float* out) {
    const ItemBlocks blocks{frames, MelFilters::get(n_mels), n_mels, out};
    std::atomic<bool> all_good{true};
    Pool::instance().run(threads, (frames.frames + kChunk - 1) / kChunk, [&](std::size_t i) {
        const DenormalsAreZero guard;
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
