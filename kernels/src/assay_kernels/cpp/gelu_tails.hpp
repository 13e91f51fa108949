// q(a), the share that GELU takes off: GELU(x) = max(x, 0) - a q(a) with a = |x|.
//
// For the erf form q(a) = Phi(-a), for the tanh form 1 / (1 + exp(2 sqrt(2/pi) (a + 0.044715 a^3))). Each tail here
// has a `limit`, at which it is exactly zero, and takes a in [0, limit] or NaN.
//
// They take several vectors in step: one alone is a chain of dependent operations longer than a core sees ahead.
#pragma once

#include "exp2.hpp"
#include "polynomials.hpp"
#include "simd.hpp"

namespace assay_kernels::ASSAY_SET {

template <int W, int N>
struct Group {
    Floats<W> v[N];
};

// Two to a polynomial: log2 Phi(-a) is close to a parabola.
struct ErfTail {
    static constexpr float limit = kLogErfTailFades;

    template <int W, int N>
    ASSAY_INLINE Group<W, N> operator()(const Group<W, N>& a) const {
        constexpr int kDegree = sizeof kLogErfTail / sizeof(float) - 1;
        Group<W, N> q, power;
        for (int i = 0; i < N; ++i) q.v[i] = kLogErfTail[kDegree] * a.v[i] + kLogErfTail[kDegree - 1];
        for (int p = kDegree - 2; p >= 0; --p) {
            for (int i = 0; i < N; ++i) q.v[i] = q.v[i] * a.v[i] + kLogErfTail[p];
        }
        for (int i = 0; i < N; ++i) {
            const Exp2Parts<W> parts = split_exp2<W>(q.v[i]);
            q.v[i] = parts.fraction;
            power.v[i] = parts.power;
        }
        for (int i = 0; i < N; ++i) q.v[i] = exp2_fraction<W>(q.v[i]) * power.v[i];
        return q;
    }
};

// The definition as it is.
struct TanhTail {
    static constexpr float limit = kTanhTailFades;

    template <int W, int N>
    ASSAY_INLINE Group<W, N> operator()(const Group<W, N>& a) const {
        Group<W, N> q;
        for (int i = 0; i < N; ++i) {
            const Floats<W> square = a.v[i] * a.v[i];
            const Exp2Parts<W> parts = split_exp2<W>(a.v[i] * (kTanhExponent[1] * square + kTanhExponent[0]));
            q.v[i] = 1.0f / (exp2_fraction<W>(parts.fraction) * parts.power + 1.0f);
        }
        return q;
    }
};

// table[index % W], lane by lane: one instruction where the set has it.
template <int W>
ASSAY_INLINE Floats<W> pick(Floats<W> table, Ints<W> index) {
#ifdef __clang__
    Floats<W> picked;
    for (int i = 0; i < W; ++i) picked[i] = table[index[i] & (W - 1)];
    return picked;
#else
    return __builtin_shuffle(table, index);
#endif
}

// Polynomials on sixteen intervals, one lane of a register for each: no exponential and half the operations, where a
// look-up of sixteen is one instruction.
class TableTail {
  public:
    static constexpr float limit = 15.0f * kTableWidth;

    explicit TableTail(const float (&table)[6][16]) : table_(table) {}

    template <int N>
    ASSAY_INLINE Group<16, N> operator()(const Group<16, N>& a) const {
        constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number, in the low bits
        Group<16, N> q, t;
        Ints<16> interval[N];
        for (int i = 0; i < N; ++i) {
            const Floats<16> rounded = a.v[i] * (1.0f / kTableWidth) + kRound;
            interval[i] = bits_of<16>(rounded);
            t.v[i] = a.v[i] * (1.0f / kTableWidth) - (rounded - kRound);
            q.v[i] = pick<16>(load<Floats<16>>(table_[5]), interval[i]);
        }
        for (int p = 4; p >= 0; --p) {
            const Floats<16> power = load<Floats<16>>(table_[p]);
            for (int i = 0; i < N; ++i) q.v[i] = q.v[i] * t.v[i] + pick<16>(power, interval[i]);
        }
        return q;
    }

  private:
    const float (&table_)[6][16];
};

}  // namespace assay_kernels::ASSAY_SET
