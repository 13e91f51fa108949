// Stores that bypass the caches, where the set has them.
#pragma once

#include "simd.hpp"

#if defined(__SSE__) && !defined(__clang__)
#include <immintrin.h>
#endif

namespace assay_kernels::ASSAY_SET {

// to[0, W) = v; `to` is aligned to the vector.
template <int W>
ASSAY_INLINE void stream(float* to, Floats<W> v) {
#if defined(__clang__)
    __builtin_nontemporal_store(v, reinterpret_cast<Floats<W>*>(to));
#elif defined(__SSE__)
#ifdef __AVX__
    if constexpr (W % 8 == 0) {
        const char* bytes = reinterpret_cast<const char*>(&v);
        for (int i = 0; i < W; i += 8) _mm256_stream_ps(to + i, load<__m256>(bytes + i * sizeof(float)));
        return;
    }
#endif
    const char* bytes = reinterpret_cast<const char*>(&v);
    for (int i = 0; i < W; i += 4) _mm_stream_ps(to + i, load<__m128>(bytes + i * sizeof(float)));
#else
    store(to, v);
#endif
}

// Orders streamed stores before what this thread does next, such as telling another that they are there.
ASSAY_INLINE void end_of_stream() {
#if defined(__SSE__)
    __builtin_ia32_sfence();
#endif
}

}  // namespace assay_kernels::ASSAY_SET
