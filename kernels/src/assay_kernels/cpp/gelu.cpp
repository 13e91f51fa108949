// GELU as max(x, 0) - a q(a), a = |x|. The product keeps the relative error small near zero, where q is 1/2, and down
// the negative side, where x Phi(x) from 1 + erf(x / sqrt(2)) loses all its digits.
#include "gelu.hpp"

#include <algorithm>
#include <cstdint>

#include "denormals.hpp"
#include "gelu_tails.hpp"
#include "hidden.hpp"
#include "pool.hpp"
#include "simd.hpp"
#include "stream.hpp"

namespace assay_kernels::ASSAY_SET {

namespace {

// Elements in one task: a quarter of a megabyte in and as much out.
constexpr std::size_t kTask = std::size_t{1} << 16;

// Bytes in and out above which the result bypasses the caches. What fits them is better left there for whoever reads
// it next; what doesn't would evict the rest, and its lines would be read before they are written.
constexpr std::size_t kStreamAbove = std::size_t{32} << 20;

constexpr int kLine = 16;             // floats in a line of the cache
constexpr std::size_t kAhead = 1024;  // floats: one page, where the CPU's own prefetching stops

template <int W, class Tail>
class Gelu {
  public:
    explicit Gelu(const Tail& tail) : tail_(tail) {}

    template <int N>
    ASSAY_INLINE Group<W, N> operator()(const float* x) const {
        Group<W, N> a, y;
        for (int i = 0; i < N; ++i) {
            const Floats<W> magnitude = floats_of<W>(bits_of<W>(load<Floats<W>>(x + i * W)) & 0x7fffffff);
            a.v[i] = smaller(limit_, magnitude);  // NaN stays
        }
        const Group<W, N> q = tail_(a);
        for (int i = 0; i < N; ++i) y.v[i] = larger(load<Floats<W>>(x + i * W), zero_) - a.v[i] * q.v[i];
        return y;
    }

  private:
    Tail tail_;
    Floats<W> limit_ = hidden<W>(Tail::limit);
    Floats<W> zero_ = hidden<W>(0.0f);
};

// Less than a vector, through a buffer: nothing outside the arrays is touched, and nothing is computed twice.
template <int W, class Tail>
void few(const float* x, float* y, std::size_t n, const Gelu<W, Tail>& gelu) {
    float part[W] = {};
    std::copy_n(x, n, part);
    store(part, gelu.template operator()<1>(part).v[0]);
    std::copy_n(part, n, y);
}

// From i on, as many whole groups as there are; returns where they end.
template <int W, bool Streamed, class Tail>
std::size_t groups(const float* x, float* y, std::size_t i, std::size_t n, const Gelu<W, Tail>& gelu) {
    constexpr int N = 6;
    for (; i + W * N <= n; i += W * N) {
        for (int j = 0; j < W * N; j += kLine) __builtin_prefetch(x + i + kAhead + j);
        const Group<W, N> group = gelu.template operator()<N>(x + i);
        for (int j = 0; j < N; ++j) {
            if constexpr (Streamed) {
                stream<W>(y + i + j * W, group.v[j]);
            } else {
                store(y + i + j * W, group.v[j]);
            }
        }
    }
    return i;
}

template <int W, class Tail>
void run(const float* x, float* y, std::size_t n, bool streamed, const Tail& tail) {
    const DenormalsAreZero guard;
    const Gelu<W, Tail> gelu(tail);
    std::size_t i = 0;
    if (streamed) {
        const std::size_t past = reinterpret_cast<std::uintptr_t>(y) / sizeof(float) % W;
        const std::size_t first = past == 0 ? 0 : std::min(n, W - past);
        few<W>(x, y, first, gelu);
        i = groups<W, true>(x, y, first, n, gelu);
        end_of_stream();
    } else {
        i = groups<W, false>(x, y, 0, n, gelu);
    }
    for (; i + W <= n; i += W) store(y + i, gelu.template operator()<1>(x + i).v[0]);
    if (i < n) few<W>(x + i, y + i, n - i, gelu);
}

template <class Tail>
void run_tasks(const float* x, float* y, std::size_t n, int threads, const Tail& tail) {
    const bool streamed = x != y && 2 * n * sizeof(float) > kStreamAbove;
    Pool::instance().run(threads, (n + kTask - 1) / kTask, [&](std::size_t task) {
        const std::size_t from = task * kTask;
        run<kLanes>(x + from, y + from, std::min(kTask, n - from), streamed, tail);
    });
}

}  // namespace

void gelu(const float* x, float* y, std::size_t n, GeluForm form, int threads) {
    const bool erf = form == GeluForm::erf;
    if constexpr (kLanes == 16) {
        run_tasks(x, y, n, threads, TableTail(erf ? kErfTable : kTanhTable));
    } else if (erf) {
        run_tasks(x, y, n, threads, ErfTail());
    } else {
        run_tasks(x, y, n, threads, TanhTail());
    }
}

}  // namespace assay_kernels::ASSAY_SET
