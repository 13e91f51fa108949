#include <nanobind/nanobind.h>

namespace assay_kernels::ASSAY_SET {

void bind_gelu(nanobind::module_&) {}

}  // namespace assay_kernels::ASSAY_SET
