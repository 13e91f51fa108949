// The power spectrum of windowed 400-sample frames, one frame per lane.
//
// Transforms use exp(+i): for a real signal that conjugates the spectrum, which its power doesn't show.
#pragma once

#include "mel_tables.hpp"
#include "simd.hpp"

namespace assay_kernels::ASSAY_SET {

// cos and sin of the angles that the transforms need.
inline constexpr float kCos8 = 0.92387953251128675613f;   // pi / 8
inline constexpr float kSin8 = 0.38268343236508977173f;
inline constexpr float kSqrtHalf = 0.70710678118654752440f;
inline constexpr float kSin5 = 0.95105651629515357212f;   // 2 pi / 5
inline constexpr float kSinRatio5 = 0.61803398874989484820f;  // sin(4 pi / 5) / sin(2 pi / 5)
inline constexpr float kRoot5 = 0.55901699437494742410f;  // sqrt(5) / 4

// exp(2 pi i n / 25), for the products n of two row numbers up to 4.
inline constexpr float kCos25[] = {
    1.0f, 0.96858316112863108f, 0.87630668004386358f, 0.72896862742141155f, 0.53582679497899662f,
    0.0f, 0.06279051952931337f, 0.0f, -0.42577929156507266f, -0.63742398974868969f,
    0.0f, 0.0f, -0.99211470131447783f, 0.0f, 0.0f,
    0.0f, -0.63742398974868969f};
inline constexpr float kSin25[] = {
    0.0f, 0.24868988716485479f, 0.48175367410171532f, 0.68454710592868873f, 0.84432792550201508f,
    0.0f, 0.99802672842827156f, 0.0f, 0.90482705246601958f, 0.77051324277578925f,
    0.0f, 0.0f, 0.12533323356430426f, 0.0f, 0.0f,
    0.0f, -0.77051324277578925f};

template <int W>
struct Complex {
    Floats<W> re, im;
};

template <int W>
ASSAY_INLINE Floats<W> power(Complex<W> x) {
    return x.re * x.re + x.im * x.im;
}

template <int W>
ASSAY_INLINE Complex<W> turn(Complex<W> x, float c, float s) {
    return {x.re * c - x.im * s, x.re * s + x.im * c};
}

template <int W>
ASSAY_INLINE Complex<W> operator+(Complex<W> x, Complex<W> y) {
    return {x.re + y.re, x.im + y.im};
}
template <int W>
ASSAY_INLINE Complex<W> operator-(Complex<W> x, Complex<W> y) {
    return {x.re - y.re, x.im - y.im};
}
template <int W>
ASSAY_INLINE Complex<W> operator*(Complex<W> x, float c) {
    return {x.re * c, x.im * c};
}
// x + i y c
template <int W>
ASSAY_INLINE Complex<W> plus_i(Complex<W> x, Complex<W> y, float c) {
    return {x.re - y.im * c, x.im + y.re * c};
}

// Five points, complex.
template <int W>
ASSAY_INLINE void transform5(const Complex<W> x[5], Complex<W> y[5]) {
    const Complex<W> t1 = x[1] + x[4], t2 = x[2] + x[3], t3 = x[1] - x[4], t4 = x[2] - x[3];
    const Complex<W> t = t1 + t2, u = t1 - t2;
    y[0] = x[0] + t;
    const Complex<W> m = x[0] - t * 0.25f;
    const Complex<W> b1 = t3 + t4 * kSinRatio5, b2 = t3 * kSinRatio5 - t4;
    const Complex<W> a1 = m + u * kRoot5, a2 = m - u * kRoot5;
    y[1] = plus_i(a1, b1, kSin5);
    y[2] = plus_i(a2, b2, kSin5);
    y[3] = plus_i(a2, b2, -kSin5);
    y[4] = plus_i(a1, b1, -kSin5);
}

// Five points, real: the first three results; the others are their mirror images.
template <int W>
ASSAY_INLINE void transform5(const Floats<W> x[5], Floats<W>& y0, Complex<W>& y1, Complex<W>& y2) {
    const Floats<W> t1 = x[1] + x[4], t2 = x[2] + x[3], t3 = x[1] - x[4], t4 = x[2] - x[3];
    const Floats<W> t = t1 + t2, u = t1 - t2;
    const Floats<W> m = x[0] - t * 0.25f;
    y0 = x[0] + t;
    y1 = {m + u * kRoot5, (t3 + t4 * kSinRatio5) * kSin5};
    y2 = {m - u * kRoot5, (t3 * kSinRatio5 - t4) * kSin5};
}

// The windowed frames' short transforms: row 0 and row 8 are real, row i between is complex.
template <int W>
struct Rows {
    Floats<W> first[kLong];
    Floats<W> last[kLong];
    Complex<W> between[kShort / 2 - 1][kLong];
};

// Windows and transforms 16 samples that are 25 apart, those of column j. Sample n is at samples + offset[n].
template <int W>
ASSAY_INLINE void transform16(const float* samples, const Offset* offset, const float* window, int j,
                              Rows<W>& rows) {
    Floats<W> even[8], odd[8];
    for (int i = 0; i < 8; ++i) {
        const Floats<W> x = load<Floats<W>>(samples + offset[i]);
        const Floats<W> y = load<Floats<W>>(samples + offset[i + 8]) * window[i + 8];
        even[i] = x * window[i] + y;
        odd[i] = x * window[i] - y;
    }
    {
        Floats<W> f[4], g[4];
        for (int i = 0; i < 4; ++i) {
            f[i] = even[i] + even[i + 4];
            g[i] = even[i] - even[i + 4];
        }
        const Floats<W> f02 = f[0] + f[2], f13 = f[1] + f[3];
        rows.first[j] = f02 + f13;
        rows.last[j] = f02 - f13;
        rows.between[3][j] = {f[0] - f[2], f[1] - f[3]};
        const Floats<W> minus = g[1] - g[3], plus = g[1] + g[3];
        rows.between[1][j] = {g[0] + minus * kSqrtHalf, plus * kSqrtHalf + g[2]};
        rows.between[5][j] = {g[0] - minus * kSqrtHalf, plus * kSqrtHalf - g[2]};
    }
    {
        const Floats<W> d1 = odd[1] - odd[7], d2 = odd[2] - odd[6], d3 = odd[3] - odd[5];
        const Floats<W> s1 = odd[1] + odd[7], s2 = odd[2] + odd[6], s3 = odd[3] + odd[5];
        const Floats<W> a = odd[0] + d2 * kSqrtHalf, b = odd[0] - d2 * kSqrtHalf;
        const Floats<W> c = d1 * kCos8 + d3 * kSin8, d = d1 * kSin8 - d3 * kCos8;
        const Floats<W> e = s2 * kSqrtHalf + odd[4], f = s2 * kSqrtHalf - odd[4];
        const Floats<W> g = s1 * kSin8 + s3 * kCos8, h = s1 * kCos8 - s3 * kSin8;
        rows.between[0][j] = {a + c, g + e};
        rows.between[6][j] = {a - c, g - e};
        rows.between[2][j] = {b + d, h + f};
        rows.between[4][j] = {b - d, h - f};
    }
}

// Powers of the 25-point transform of a complex row, stored at their bins. Works in the row, which is lost:
// five transforms of elements five apart, twiddles, five transforms of neighbours.
template <int W>
ASSAY_INLINE void power25(Complex<W>* row, const Bin* bin, Floats<W>* powers) {
    for (int b = 0; b < 5; ++b) {
        const Complex<W> x[5] = {row[b], row[b + 5], row[b + 10], row[b + 15], row[b + 20]};
        Complex<W> y[5];
        transform5<W>(x, y);
        row[b] = y[0];
        for (int c = 1; c < 5; ++c) row[b + 5 * c] = b == 0 ? y[c] : turn<W>(y[c], kCos25[b * c], kSin25[b * c]);
    }
    for (int c = 0; c < 5; ++c) {
        Complex<W> y[5];
        transform5<W>(row + 5 * c, y);
        for (int d = 0; d < 5; ++d) powers[bin[c + 5 * d]] = power<W>(y[d]);
    }
}

// The same for a real row: 13 different bins.
template <int W>
ASSAY_INLINE void power25(const Floats<W>* row, const Bin* bin, Floats<W>* powers) {
    Floats<W> y0[5];
    Complex<W> y[2][5];
    for (int b = 0; b < 5; ++b) {
        const Floats<W> x[5] = {row[b], row[b + 5], row[b + 10], row[b + 15], row[b + 20]};
        transform5<W>(x, y0[b], y[0][b], y[1][b]);
        for (int c = 1; b > 0 && c < 3; ++c) y[c - 1][b] = turn<W>(y[c - 1][b], kCos25[b * c], kSin25[b * c]);
    }
    Floats<W> t0;
    Complex<W> t1, t2;
    transform5<W>(y0, t0, t1, t2);
    powers[bin[0]] = t0 * t0;
    powers[bin[5]] = power<W>(t1);
    powers[bin[10]] = power<W>(t2);
    for (int c = 1; c < 3; ++c) {
        Complex<W> t[5];
        transform5<W>(y[c - 1], t);
        for (int d = 0; d < 5; ++d) powers[bin[c + 5 * d]] = power<W>(t[d]);
    }
}

// Where the samples of a frame are, in the order of the transform: offset[j][i] is that of sample_of(i, j).
struct Offsets {
    Offset offset[kLong][kShort];

    template <class Rule>
    explicit Offsets(Rule offset_of) {
        for (int j = 0; j < kLong; ++j) {
            for (int i = 0; i < kShort; ++i) offset[j][i] = static_cast<Offset>(offset_of(sample_of(i, j)));
        }
    }
};

// Powers of the 201 bins of W frames, frame by lane. Sample n of all frames is at samples + the offset of n.
//
// Calls between(j), for j up to 24, spread over the work: room for what else the memory could be doing.
template <int W, class Between>
ASSAY_INLINE void power_spectrum(const float* samples, const Offsets& offsets, const TransformTables& tables,
                                 Floats<W> powers[kBins], const Between& between) {
    Rows<W> rows;
#pragma GCC unroll 1
    for (int j = 0; j < kLong; ++j) {
        transform16<W>(samples, offsets.offset[j], tables.window[j], j, rows);
        between(j);
    }
    power25<W>(rows.first, tables.bin[0], powers);
#pragma GCC unroll 1
    for (int i = 1; i < kShort / 2; ++i) power25<W>(rows.between[i - 1], tables.bin[i], powers);
    power25<W>(rows.last, tables.bin[kShort / 2], powers);
}

}  // namespace assay_kernels::ASSAY_SET
