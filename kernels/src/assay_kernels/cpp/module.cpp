// One extension module; its name is its instruction set's.
#include <nanobind/nanobind.h>

namespace assay_kernels::ASSAY_SET {

void bind_mel(nanobind::module_& m);
void bind_gelu(nanobind::module_& m);
void bind_attention(nanobind::module_& m);

}  // namespace assay_kernels::ASSAY_SET

NB_MODULE(ASSAY_SET, m) {
    m.attr("lanes") = ASSAY_LANES;
    assay_kernels::ASSAY_SET::bind_mel(m);
    assay_kernels::ASSAY_SET::bind_gelu(m);
    assay_kernels::ASSAY_SET::bind_attention(m);
}
