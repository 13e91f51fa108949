// Inputs as plain C arrays.
#pragma once

#include <nanobind/nanobind.h>

#include "arrays.hpp"

namespace assay_kernels::ASSAY_SET {

// A C-contiguous, aligned copy of a NumPy array.
inline nb::object plain_copy(nb::handle array) {
    return nb::module_::import_("numpy").attr("array")(array, nb::arg("order") = "C", nb::arg("copy") = true);
}

inline bool overlap(const void* a, std::size_t bytes_a, const void* b, std::size_t bytes_b) {
    const auto from_a = reinterpret_cast<std::uintptr_t>(a);
    const auto from_b = reinterpret_cast<std::uintptr_t>(b);
    return from_a < from_b + bytes_b && from_b < from_a + bytes_a;
}

}  // namespace assay_kernels::ASSAY_SET
