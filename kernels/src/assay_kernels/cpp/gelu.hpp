// GELU of float32 arrays.
#pragma once

#include <cstddef>

namespace assay_kernels::ASSAY_SET {

enum class GeluForm {
    erf,   // x Phi(x)
    tanh,  // x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
};

// y[i] = GELU(x[i]) for i < n. y may be x; otherwise the two don't overlap.
// NaN gives NaN, infinity gives infinity, minus infinity and denormal numbers give a zero.
void gelu(const float* x, float* y, std::size_t n, GeluForm form, int threads);

}  // namespace assay_kernels::ASSAY_SET
