// gelu as Python sees it.
#include <nanobind/nanobind.h>

#include <cstring>

#include "arrays.hpp"
#include "gelu.hpp"
#include "plain.hpp"

namespace assay_kernels::ASSAY_SET {

namespace {

using namespace nb::literals;

constexpr int kMaxAxes = 64;  // NumPy's own limit

GeluForm form_of(const char* approximate) {
    if (std::strcmp(approximate, "none") == 0) return GeluForm::erf;
    if (std::strcmp(approximate, "tanh") == 0) return GeluForm::tanh;
    PyErr_Format(PyExc_ValueError, "approximate: expected 'none' or 'tanh', found '%s'", approximate);
    throw nb::python_error();
}

nb::object py_gelu(nb::handle x, const char* approximate, nb::handle out, int threads) {
    const GeluForm form = form_of(approximate);
    checked_threads(threads);
    PlainInput in(x, "x");
    const int axes = in.array().ndim();
    std::size_t shape[kMaxAxes];
    for (int axis = 0; axis < axes; ++axis) shape[axis] = in.array().size(axis);
    const Result result(out, axes, shape);
    const std::size_t n = in.array().elements();
    // In place is right as it is. Otherwise, where the two overlap, x would be read after it was written.
    const bool in_place = in.array().plain() && in.data() == result.data();
    if (!in_place) in.prepare(result.data(), n * sizeof(float));
    {
        const nb::gil_scoped_release released;
        gelu(in.data(), result.data(), n, form, threads);
    }
    return result.finish();
}

}  // namespace

void bind_gelu(nb::module_& m) {
    m.def("gelu", &py_gelu, "x"_a, nb::kw_only(), "approximate"_a = "none", "out"_a = nb::none(), "threads"_a = 1,
          "The Gaussian error linear unit of every element of a float32 array of any shape, as ONNX Gelu defines it: "
          "approximate \"none\" is x Phi(x), \"tanh\" its approximation. Zero at minus infinity, infinity at "
          "infinity, NaN at NaN; denormal numbers count as zero. out may be x.");
    // With the number of threads settled: what an opener hands out, without the cost of a wrapper.
    m.def(
        "open_gelu",
        [](int threads) {
            checked_threads(threads);
            return nb::cpp_function(
                [threads](nb::handle x, const char* approximate, nb::handle out) {
                    return py_gelu(x, approximate, out, threads);
                },
                nb::name("gelu"), "x"_a, nb::kw_only(), "approximate"_a = "none", "out"_a = nb::none());
        },
        "threads"_a);
}

}  // namespace assay_kernels::ASSAY_SET
