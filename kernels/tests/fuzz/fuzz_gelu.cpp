#include <cmath>

#include "fuzz.hpp"
#include "gelu.hpp"

namespace assay_kernels::ASSAY_SET {

namespace {

// Any length and alignment, in place or not, with any number of threads.
void fuzz_gelu(Rng& rng) {
    const std::size_t count = rng.one_in(50) ? rng.between(60000, 300000) : rng.between(0, 3000);
    const GeluForm form = rng.one_in(2) ? GeluForm::erf : GeluForm::tanh;
    const std::vector<float> plain = random_floats(rng, count);
    const Buffer in(count * sizeof(float), 4 * rng.between(0, 15)), out(count * sizeof(float), 4 * rng.between(0, 15));
    if (count > 0) std::memcpy(in.bytes(), plain.data(), count * sizeof(float));

    std::memset(out.bytes(), 0xff, count * sizeof(float));
    gelu(in.floats(), out.floats(), count, form, 1);

    for (std::size_t i = 0; i < count; ++i) {
        const double x = plain[i];
        const double right = form == GeluForm::erf
                                 ? 0.5 * x * std::erfc(-x * std::sqrt(0.5))
                                 : 0.5 * x * (1.0 + std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
        require(std::fabs(out.floats()[i] - right) <= 2e-6 + 1e-6 * std::fabs(right), "GELU of a number");
    }
    gelu(in.floats(), in.floats(), count, form, static_cast<int>(rng.between(1, 4)));
    require_same(out.floats(), in.floats(), count, "GELU in place, on threads");
}

const Target target("gelu", fuzz_gelu);

}  // namespace

}  // namespace assay_kernels::ASSAY_SET
