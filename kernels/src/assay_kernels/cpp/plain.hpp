// Inputs as plain C arrays that the result can't overwrite.
#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>
#include <cstdint>
#include <optional>

#include "arrays.hpp"

namespace assay_kernels::ASSAY_SET {

// Whether a strided array, float32 or boolean, reaches into `bytes` bytes at `start`.
inline bool overlaps(const Array& array, const void* start, std::size_t bytes) {
    if (array.elements() == 0 || bytes == 0) return false;
    auto low = reinterpret_cast<std::uintptr_t>(array.data());
    auto high = low + (array.type() == '?' ? 1 : sizeof(float));
    for (int axis = 0; axis < array.ndim(); ++axis) {
        const std::ptrdiff_t reach = static_cast<std::ptrdiff_t>(array.size(axis) - 1) * array.stride(axis);
        (reach < 0 ? low : high) += static_cast<std::uintptr_t>(reach);
    }
    const auto from = reinterpret_cast<std::uintptr_t>(start);
    return low < from + bytes && from < high;
}

// A C-contiguous, aligned copy of a NumPy array.
inline nb::object plain_copy(nb::handle array) {
    return nb::module_::import_("numpy").attr("array")(array, nb::arg("order") = "C", nb::arg("copy") = true);
}

// A float32 input, to be read as a plain C array.
class PlainInput {
  public:
    // Raises TypeError, naming `name`, if it isn't float32.
    PlainInput(nb::handle object, const char* name) : object_(object), name_(name), array_(std::in_place, object, name) {
        if (array_->type() == 'f') return;
        PyErr_Format(PyExc_TypeError, "%s: expected float32, found %s", name, array_->describe().c_str());
        throw nb::python_error();
    }

    const Array& array() const { return *array_; }
    const float* data() const { return static_cast<const float*>(array_->data()); }

    // Before data() is read: replaces the array by a copy of it, unless it is plain and out of the result's way.
    void prepare(const void* result, std::size_t bytes) {
        if (!array_->plain() || overlaps(*array_, result, bytes)) array_.emplace(plain_copy(object_), name_);
    }

  private:
    nb::handle object_;
    const char* name_;
    std::optional<Array> array_;
};

}  // namespace assay_kernels::ASSAY_SET
