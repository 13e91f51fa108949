// Vectors of a compile-time width, from the compiler's vector extensions: no instruction set is named here.
//
// Everything of one instruction set lives in a namespace of its own (ASSAY_SET), so that no inline function of
// one set can stand in for another's when several sets meet in one program.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#ifndef ASSAY_SET
#error "ASSAY_SET names the instruction set that this file is compiled for"
#endif

#define ASSAY_INLINE inline __attribute__((always_inline))

namespace assay_kernels::ASSAY_SET {

inline constexpr int kLanes = ASSAY_LANES;  // of a float vector in this set

template <int W>
struct VectorOf {
    typedef float floats __attribute__((vector_size(W * 4)));
    typedef std::int32_t ints __attribute__((vector_size(W * 4)));
    typedef std::int16_t shorts __attribute__((vector_size(W * 2)));
};

template <int W>
using Floats = typename VectorOf<W>::floats;
template <int W>
using Ints = typename VectorOf<W>::ints;
template <int W>
using Shorts = typename VectorOf<W>::shorts;

// Loads and stores take any alignment; memcpy is how C++ says so, and compiles to one instruction.
template <class V>
ASSAY_INLINE V load(const void* from) {
    V v;
    std::memcpy(&v, from, sizeof(V));
    return v;
}

template <class V>
ASSAY_INLINE void store(void* to, V v) {
    std::memcpy(to, &v, sizeof(V));
}

template <int W>
ASSAY_INLINE Floats<W> splat(float x) {
    return x - Floats<W>{};
}

template <int W>
ASSAY_INLINE Ints<W> bits_of(Floats<W> x) {
    return (Ints<W>)x;
}

template <int W>
ASSAY_INLINE Floats<W> floats_of(Ints<W> bits) {
    return (Floats<W>)bits;
}

// The larger of two, lane by lane; b where a is not a number.
template <class V>
ASSAY_INLINE V larger(V a, V b) {
    return a > b ? a : b;
}

template <class V>
ASSAY_INLINE V smaller(V a, V b) {
    return a < b ? a : b;
}

template <int W>
inline float largest_lane(Floats<W> v) {
    float x = v[0];
    for (int i = 1; i < W; ++i) x = larger(v[i], x);
    return x;
}

template <int W>
inline float smallest_lane(Floats<W> v) {
    float x = v[0];
    for (int i = 1; i < W; ++i) x = smaller(v[i], x);
    return x;
}

template <int W>
inline bool lanes_finite(Floats<W> v) {
    for (int i = 0; i < W; ++i) {
        if (!__builtin_isfinite(v[i])) return false;
    }
    return true;
}

}  // namespace assay_kernels::ASSAY_SET
