#include "mel.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <vector>

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

// A tile is W frames, and reads as many columns and the two after them, which are the next tile's first.
constexpr int kHalo = (kFrame - 1) / kHop;
constexpr int kPitch = W + 8;        // of its rows: with 8 lanes, no load or store crosses a cache line
constexpr std::size_t kChunk = 128;  // frames to a task: enough to be worth a thread, few enough to share evenly

struct Offsets {
    Offset offset[kLong][kShort];

    template <class Rule>
    explicit Offsets(Rule rule) {
        for (int j = 0; j < kLong; ++j) {
            for (int i = 0; i < kShort; ++i) offset[j][i] = static_cast<Offset>(rule(sample_of(i, j)));
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

ASSAY_INLINE float as_float(float x) { return x; }
ASSAY_INLINE float as_float(std::int16_t x) { return x * (1.0f / 32768.0f); }

template <class Sample>
ASSAY_INLINE float sample_at(const Audio& audio, std::ptrdiff_t i) {
    Sample x;
    std::memcpy(&x, audio.data + i * audio.stride, sizeof x);
    return as_float(x);
}

bool all_finite(const Audio& audio, std::size_t from) {
    if (audio.type == Audio::Sample::int16) return true;
    bool finite = true;
    for (std::size_t i = from; i < audio.samples; ++i) {
        finite &= std::isfinite(sample_at<float>(audio, static_cast<std::ptrdiff_t>(i)));
    }
    return finite;
}

// What is known of some results.
struct Extent {
    F low = splat<W>(std::numeric_limits<float>::max());
    F high = splat<W>(std::numeric_limits<float>::lowest());
    F sum = {};  // of powers: not finite if one of them isn't

    ASSAY_INLINE void add(F power, F log) {
        sum += power;
        low = smaller(log, low);
        high = larger(log, high);
    }
};

float largest(F v) {
    float x = v[0];
    for (int i = 1; i < W; ++i) x = std::max(x, v[i]);
    return x;
}

float smallest(F v) {
    float x = v[0];
    for (int i = 1; i < W; ++i) x = std::min(x, v[i]);
    return x;
}

bool finite(F v) {
    for (int i = 0; i < W; ++i) {
        if (!std::isfinite(v[i])) return false;
    }
    return true;
}

template <int Length>
ASSAY_INLINE void apply_runs(int count, const Bin*& first_bin, const float*& weights, const F* powers, F*& mels) {
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
    const Bin* first_bin = filters.first_bin.data();
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
template <class Sample>
class Columns {
  public:
    Columns(const Audio& audio, bool center)
        : audio_(audio), pad_(center ? kPad : 0), in_place_(audio.stride == sizeof(Sample)) {}

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

// A chunk of frames that is done but for the floor.
struct Chunk {
    float low, high;
    bool finite;
};

struct Whole {
    const Audio& audio;
    const MelFilters& filters;
    int n_mels;
    bool center;
    std::size_t frames;
    float* out;

    // Scaled logarithms of frames [from, to), not floored.
    template <class Sample>
    Chunk run(std::size_t from, std::size_t to) const {
        const DenormalsAreZero guard;
        const TransformTables& tables = TransformTables::get();
        const Offsets& offsets = column_offsets();
        Columns<Sample> columns(audio, center);
        Extent extent;
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
            power_spectrum<W>(columns.rows(), offsets.offset, tables, powers, [&](int j) {
                constexpr int kLines = W * kHop * sizeof(float) / 64;
                for (int i = kLines * j / kLong; i < kLines * (j + 1) / kLong; ++i) __builtin_prefetch(next + i * 64);
                for (int i = 0; i < (kMaxMels + kLong - 1) / kLong && rows_left > 0; ++i, --rows_left, row += frames) {
                    __builtin_prefetch(row, 1);
                }
            });
            F mels[kMaxMels];
            apply(filters, powers, mels);
            if (to - f >= W) {
                full_tile(mels, out + f, extent);
            } else {
                part_tile(mels, out + f, static_cast<int>(to - f), extent);
            }
        }
        return {smallest(extent.low), largest(extent.high), finite(extent.sum)};
    }

    void full_tile(const F* mels, float* to, Extent& result) const {
        Extent extent = result;  // a local, to stay in registers
        const int n = n_mels;
#pragma GCC unroll 2
        for (int m = 0; m < n; ++m) {
            const F log = scaled_log(mels[m]);
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
        const DenormalsAreZero guard;
        const TransformTables& tables = TransformTables::get();
        const Offsets& offsets = frame_offsets();
        F sum = {};
        alignas(64) float samples[kFrame * W];
        F powers[kBins], mels[kMaxMels];
        for (std::size_t f = from; f < to; f += W) {
            const int count = static_cast<int>(std::min<std::size_t>(W, to - f));
            read(f, count, samples);
            power_spectrum<W>(samples, offsets.offset, tables, powers, [](int) {});
            apply(filters, powers, mels);
            for (int m = 0; m < n_mels; ++m) {
                sum += mels[m];
                mels[m] = log2<W>(larger(splat<W>(kFloor), mels[m])) * kLog10Of2;
            }
            write(mels, count, out + f * static_cast<std::size_t>(n_mels));
        }
        return finite(sum);
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

std::size_t mel_frames(std::size_t samples, bool center) {
    if (center) return samples > kPad ? samples / kHop : 0;
    return samples >= kFrame ? (samples - kFrame) / kHop + 1 : 0;
}

MelStatus log_mel(const Audio& audio, int n_mels, bool center, int threads, float* out) {
    const std::size_t frames = mel_frames(audio.samples, center);
    const Whole whole{audio, MelFilters::get(n_mels), n_mels, center, frames, out};
    std::vector<Chunk> chunks((frames + kChunk - 1) / kChunk);
    Pool& pool = Pool::instance();
    const auto end = [&](std::size_t i) { return std::min(frames, (i + 1) * kChunk); };
    pool.run(threads, chunks.size(), [&](std::size_t i) {
        chunks[i] = audio.type == Audio::Sample::float32 ? whole.run<float>(i * kChunk, end(i))
                                                         : whole.run<std::int16_t>(i * kChunk, end(i));
    });

    bool finite = true;
    float high = chunks[0].high;
    for (const Chunk& chunk : chunks) {
        finite = finite && chunk.finite;
        high = std::max(high, chunk.high);
    }
    // The last samples may be in no frame; the others have been seen in the sums.
    const std::size_t tail = audio.samples - std::min<std::size_t>(audio.samples, kFrame);
    if (!finite || !all_finite(audio, tail)) return all_finite(audio, 0) ? MelStatus::overflow : MelStatus::not_finite;

    const float floor = high - kRange / 4.0f;
    if (std::all_of(chunks.begin(), chunks.end(), [&](const Chunk& chunk) { return chunk.low >= floor; })) {
        return MelStatus::done;
    }
    pool.run(threads, chunks.size(), [&](std::size_t i) {
        if (chunks[i].low < floor) whole.floor_at(floor, i * kChunk, end(i));
    });
    return MelStatus::done;
}

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
