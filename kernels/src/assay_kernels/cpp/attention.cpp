// Attention with online softmax: nothing as large as (length x keys) exists.
//
// Lanes are queries. A tile of them, transposed and scaled, stays in the nearest cache and meets the keys and values
// block by block; their numbers are broadcast from where they lie, so nothing of them is copied. The queries of all
// heads that share a key head are the rows of one matrix.
#include "attention.hpp"

#include <algorithm>
#include <atomic>
#include <cfloat>
#include <cstdint>
#include <limits>
#include <memory>

#include "denormals.hpp"
#include "exp2.hpp"
#include "hidden.hpp"
#include "pool.hpp"
#include "product.hpp"
#include "simd.hpp"
#include "transpose.hpp"

namespace assay_kernels::ASSAY_SET {

namespace {

constexpr int W = kLanes;
constexpr int kVectors = W == 4 ? 2 : 3;  // of queries in a full tile: sets of four lanes may have few registers
constexpr std::size_t kTile = kVectors * W;
constexpr std::size_t kBlock = 128;  // keys; 64 to 256 are alike

constexpr std::size_t kSummed = 64;  // products in a row: a score is a sum of such sums, whose errors are smaller

constexpr float kLog2E = 1.44269504f;
constexpr float kFaded = -88.2f;  // exponential() is zero from here down
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// What one tile works in: matrices with a column for each of its queries.
class Workspace {
  public:
    explicit Workspace(const Attention& request)
        : room_(new float[(request.depth + request.value_depth + 2 * kBlock + 1) * kTile + kLine]) {
        void* start = room_.get();
        std::size_t space = std::numeric_limits<std::size_t>::max();
        queries = static_cast<float*>(std::align(kLine * sizeof(float), 1, start, space));
        sums = queries + request.depth * kTile;
        scores = sums + request.value_depth * kTile;
        bias = scores + kBlock * kTile;
        factor = bias + kBlock * kTile;
    }

    float* queries;  // depth rows: the queries, scaled
    float* sums;     // value depth rows: weights times values, summed up
    float* scores;   // a row for each key of the block: first the scores, then the weights
    float* bias;     // likewise: the mask
    float* factor;   // one row: what the sums so far shrink by as a higher score turns up

  private:
    static constexpr std::size_t kLine = 16;  // floats in a line of the cache
    std::unique_ptr<float[]> room_;
};

// exp(x) for x <= 0; NaN stays. `faded` is kFaded, hidden.
ASSAY_INLINE Floats<W> exponential(Floats<W> x, Floats<W> faded) {
    const Exp2Parts<W> parts = split_exp2<W>(larger(faded, x), kLog2E);
    return exp2_fraction<W>(parts.fraction) * parts.power;
}

// tanh(x) as -t / (t + 2), t = exp(-2 |x|) - 1, which keeps its digits near zero.
ASSAY_INLINE Floats<W> hyperbolic_tangent(Floats<W> x, Floats<W> faded) {
    const Ints<W> sign = bits_of<W>(x) & INT32_MIN;
    const Floats<W> minus_magnitude = floats_of<W>(bits_of<W>(x) | INT32_MIN);
    const Exp2Parts<W> parts = split_exp2<W>(larger(faded, 2.0f * minus_magnitude), kLog2E);
    const Floats<W> t = exp2_slope<W>(parts.fraction) * parts.fraction * parts.power + (parts.power - 1.0f);
    return floats_of<W>(bits_of<W>(-t / (t + 2.0f)) | sign);
}

// M vectors of queries that share a key head, from row `first` on. Lanes past the last row repeat it.
template <int M>
class Tile {
  public:
    Tile(const Attention& request, const Workspace& work, std::size_t key_head, std::size_t first)
        : request_(request),
          work_(work),
          key_head_(key_head),
          first_(first),
          count_(std::min(kQueries, request.group * request.length - first)) {
        for (std::size_t lane = 0; lane < kQueries; ++lane) row_[lane] = first + std::min(lane, count_ - 1);
        // Finite, so that the difference from minus infinity is one too.
        for (int m = 0; m < M; ++m) highest_[m] = splat<W>(-FLT_MAX);
    }

    void run() {
        load_queries();
        find_last_keys();
        std::fill_n(work_.sums, request_.value_depth * kQueries, 0.0f);
        const float* k = request_.k + key_head_ * request_.keys * request_.depth;
        const float* v = request_.v + key_head_ * request_.keys * request_.value_depth;
        for (std::size_t key = 0; key < end_; key += kBlock) {
            const std::size_t n = std::min(kBlock, end_ - key);
            score(k + key * request_.depth, n);
            if (request_.softcap != 0.0f) cap(n);
            if (request_.mask.kind == MaskKind::boolean) hide(key, n);
            if (request_.mask.kind == MaskKind::additive) add(key, n);
            if (key + n > seen_by_all_) hide_later(key, n);
            weigh(n);
            multiply<W, M>(work_.sums, work_.factor, work_.scores, n,
                           {v + key * request_.value_depth, 1, request_.value_depth}, request_.value_depth);
        }
        finish();
    }

  private:
    static constexpr std::size_t kQueries = M * W;

    void load_queries() {
        const unsigned char* rows[kQueries];
        for (std::size_t lane = 0; lane < kQueries; ++lane) {
            const std::size_t row = key_head_ * request_.group * request_.length + row_[lane];
            rows[lane] = reinterpret_cast<const unsigned char*>(request_.q + row * request_.depth);
        }
        gather_rows<kQueries>(work_.queries, rows, request_.depth, request_.scale);
    }

    void score(const float* k, std::size_t n) {
        const std::size_t depth = request_.depth;
        multiply<W, M>(work_.scores, nullptr, work_.queries, std::min(depth, kSummed), {k, depth, 1}, n);
        if (depth <= kSummed) return;
        std::fill_n(work_.factor, kQueries, 1.0f);
        for (std::size_t d = kSummed; d < depth; d += kSummed) {
            multiply<W, M>(work_.scores, work_.factor, work_.queries + d * kQueries, std::min(depth - d, kSummed),
                           {k + d, depth, 1}, n);
        }
    }

    // How many keys each query sees, the fewest and the most.
    void find_last_keys() {
        seen_by_all_ = request_.keys;
        end_ = 0;
        for (std::size_t lane = 0; lane < kQueries; ++lane) {
            std::size_t seen = request_.keys;
            if (request_.causal) {
                const auto query = static_cast<std::ptrdiff_t>(row_[lane] % request_.length);
                seen = static_cast<std::size_t>(std::clamp<std::ptrdiff_t>(
                    query + request_.causal_offset + 1, 0, static_cast<std::ptrdiff_t>(request_.keys)));
            }
            seen_[lane] = seen;
            seen_by_all_ = std::min(seen_by_all_, seen);
            end_ = std::max(end_, seen);
        }
    }

    void cap(std::size_t n) {
        const Floats<W> faded = hidden<W>(kFaded);
        float* scores = work_.scores;
        for (float* s = scores; s < scores + n * kQueries; s += W) {
            store(s, request_.softcap * hyperbolic_tangent(load<Floats<W>>(s) / request_.softcap, faded));
        }
    }

    const unsigned char* mask_row(std::size_t lane, std::size_t key) const {
        const Mask& mask = request_.mask;
        const std::size_t head = key_head_ * request_.group + row_[lane] / request_.length;
        return mask.heads[head] + static_cast<std::ptrdiff_t>(row_[lane] % request_.length) * mask.row_step +
               static_cast<std::ptrdiff_t>(key) * mask.key_step;
    }

    // The boolean mask.
    void hide(std::size_t key, std::size_t n) {
        float* scores = work_.scores;
        for (std::size_t lane = 0; lane < kQueries; ++lane) {
            const unsigned char* takes_part = mask_row(lane, key);
            for (std::size_t j = 0; j < n; ++j, takes_part += request_.mask.key_step) {
                float& s = scores[j * kQueries + lane];
                s = *takes_part != 0 ? s : kMinusInfinity;
            }
        }
    }

    // The additive mask.
    void add(std::size_t key, std::size_t n) {
        const unsigned char* rows[kQueries];
        for (std::size_t lane = 0; lane < kQueries; ++lane) rows[lane] = mask_row(lane, key);
        float *scores = work_.scores, *bias = work_.bias;
        if (request_.mask.key_step == sizeof(float)) {
            gather_rows<kQueries>(bias, rows, n, 1.0f);
        } else {
            for (std::size_t lane = 0; lane < kQueries; ++lane) {
                for (std::size_t j = 0; j < n; ++j, rows[lane] += request_.mask.key_step) {
                    bias[j * kQueries + lane] = load<float>(rows[lane]);
                }
            }
        }
        for (std::size_t i = 0; i < n * kQueries; i += W) {
            store(scores + i, load<Floats<W>>(scores + i) + load<Floats<W>>(bias + i));
        }
    }

    // The causal rule.
    void hide_later(std::size_t key, std::size_t n) {
        std::int32_t seen[kQueries];  // of this block
        for (std::size_t lane = 0; lane < kQueries; ++lane) {
            seen[lane] = static_cast<std::int32_t>(std::clamp(seen_[lane], key, key + n) - key);
        }
        float* s = work_.scores;
        for (std::size_t j = 0; j < n; ++j) {
            for (int m = 0; m < M; ++m, s += W) {
                const Ints<W> sees = load<Ints<W>>(seen + m * W) > static_cast<std::int32_t>(j);
                store(s, sees ? load<Floats<W>>(s) : splat<W>(kMinusInfinity));
            }
        }
    }

    // Scores to weights exp(s - highest), and the factor that brings what was summed up before to the same highest.
    void weigh(std::size_t n) {
        const Floats<W> faded = hidden<W>(kFaded);
        float* scores = work_.scores;
        Floats<W> highest[M], total[M] = {};
        for (int m = 0; m < M; ++m) highest[m] = highest_[m];
        for (std::size_t j = 0; j < n; ++j) {
            for (int m = 0; m < M; ++m) {
                highest[m] = larger(load<Floats<W>>(scores + (j * M + m) * W), highest[m]);  // NaN is passed over
            }
        }
        for (std::size_t j = 0; j < n; ++j) {
            for (int m = 0; m < M; ++m) {
                float* s = scores + (j * M + m) * W;
                const Floats<W> weight = exponential(load<Floats<W>>(s) - highest[m], faded);
                total[m] += weight;
                store(s, weight);
            }
        }
        for (int m = 0; m < M; ++m) {
            const Floats<W> factor = exponential(highest_[m] - highest[m], faded);
            store(work_.factor + m * W, factor);
            total_[m] = total_[m] * factor + total[m];
            highest_[m] = highest[m];
        }
    }

    void finish() {
        const Floats<W> zero{};
        Floats<W> factor[M];
        for (int m = 0; m < M; ++m) factor[m] = total_[m] == zero ? zero : 1.0f / total_[m];
        float* s = work_.sums;
        for (std::size_t e = 0; e < request_.value_depth; ++e) {
            for (int m = 0; m < M; ++m, s += W) store(s, load<Floats<W>>(s) * factor[m]);
        }
        const std::size_t row = key_head_ * request_.group * request_.length + first_;
        scatter_rows<kQueries>(request_.out + row * request_.value_depth, count_, work_.sums, request_.value_depth);
    }

    const Attention& request_;
    const Workspace& work_;
    const std::size_t key_head_, first_, count_;
    std::size_t row_[kQueries];   // among those of the key head
    std::size_t seen_[kQueries];  // keys, by the causal rule
    std::size_t seen_by_all_, end_;
    Floats<W> highest_[M], total_[M] = {};
};

template <int M>
void run_tile(const Attention& request, const Workspace& work, std::size_t key_head, std::size_t first) {
    if constexpr (M > 1) {
        const std::size_t rows = request.group * request.length - first;
        if (rows <= (M - 1) * W) return run_tile<M - 1>(request, work, key_head, first);
    }
    Tile<M>(request, work, key_head, first).run();
}

}  // namespace

void attention(const Attention& request, int threads) {
    const std::size_t tiles = (request.group * request.length + kTile - 1) / kTile;  // of one key head
    const std::size_t count = request.key_heads * tiles;
    const std::size_t workers = std::min<std::size_t>(count, threads);
    std::vector<Workspace> work;
    work.reserve(workers);
    while (work.size() < workers) work.emplace_back(request);
    // A worker takes tile after tile, so that it needs one workspace; which worker takes a tile changes nothing in it.
    std::atomic<std::size_t> next{0};
    Pool::instance().run(threads, workers, [&](std::size_t worker) {
        const DenormalsAreZero guard;
        for (std::size_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) {
            run_tile<kVectors>(request, work[worker], i / tiles, i % tiles * kTile);
        }
    });
}

}  // namespace assay_kernels::ASSAY_SET
