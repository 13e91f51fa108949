// attention as Python sees it.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "arrays.hpp"
#include "attention.hpp"
#include "plain.hpp"

namespace assay_kernels::ASSAY_SET {

namespace {

using namespace nb::literals;

[[noreturn]] void invalid(const std::string& message) {
    PyErr_SetString(PyExc_ValueError, message.c_str());
    throw nb::python_error();
}

// The sizes of a request, from shapes that fit together; raises ValueError if they don't.
Attention sizes(const Array& q, const Array& k, const Array& v) {
    const int axes = q.ndim();
    bool fit = axes >= 2 && k.ndim() == axes && v.ndim() == axes;
    Attention sizes{};
    if (fit) {
        std::size_t sequences = 1;
        for (int axis = 0; axis < axes - 3; ++axis) {
            fit = fit && k.size(axis) == q.size(axis) && v.size(axis) == q.size(axis);
            sequences *= q.size(axis);
        }
        const std::size_t heads = axes > 2 ? q.size(axes - 3) : 1;
        const std::size_t key_heads = axes > 2 ? k.size(axes - 3) : 1;
        fit = fit && (axes == 2 || v.size(axes - 3) == key_heads) && v.size(axes - 2) == k.size(axes - 2);
        fit = fit && k.size(axes - 1) == q.size(axes - 1) && q.size(axes - 1) > 0;
        fit = fit && (key_heads > 0 ? heads % key_heads == 0 : heads == 0);
        sizes.key_heads = sequences * key_heads;
        sizes.group = key_heads > 0 ? heads / key_heads : 0;
        sizes.length = q.size(axes - 2);
        sizes.keys = k.size(axes - 2);
        sizes.depth = q.size(axes - 1);
        sizes.value_depth = v.size(axes - 1);
    }
    if (!fit) {
        invalid("expected q (..., heads, length, depth), k (..., key heads, keys, depth) and v (..., key heads, keys, "
                "value depth) with the same leading axes and heads a multiple of key heads, or all three without "
                "leading axes and heads; found q " + q.describe() + "; k " + k.describe() + "; v " + v.describe());
    }
    return sizes;
}

// A mask that broadcasts to the scores, q's shape with the keys in place of the depth. Raises TypeError or ValueError.
Mask mask_of(const Array& array, const Array& q, std::size_t keys) {
    Mask mask;
    switch (array.type()) {
        case '?': mask.kind = MaskKind::boolean; break;
        case 'f': mask.kind = MaskKind::additive; break;
        default:
            PyErr_Format(PyExc_TypeError, "mask: expected bool (True takes part) or float32 (added), found %s",
                         array.describe().c_str());
            throw nb::python_error();
    }
    const int axes = q.ndim();
    const int missing = axes - array.ndim();
    bool fits = missing >= 0;
    std::vector<std::size_t> sizes(static_cast<std::size_t>(axes));
    std::vector<std::ptrdiff_t> steps(sizes.size());
    for (int axis = 0; fits && axis < axes; ++axis) {
        const std::size_t size = axis == axes - 1 ? keys : q.size(axis);
        sizes[static_cast<std::size_t>(axis)] = size;
        if (axis < missing || array.size(axis - missing) == 1) continue;  // broadcast: the step is zero
        steps[static_cast<std::size_t>(axis)] = array.stride(axis - missing);
        fits = array.size(axis - missing) == size;
    }
    if (!fits) {
        invalid("mask: expected a shape that broadcasts to (..., heads, length, keys), that is q's with " +
                std::to_string(keys) + " for its last; found " + array.describe() + " with q " + q.describe());
    }
    mask.key_step = steps.back();
    mask.row_step = steps[steps.size() - 2];
    // From the last head axis to the first: every head so far once for each place along the axis.
    mask.heads = {static_cast<const unsigned char*>(array.data())};
    for (std::size_t axis = sizes.size() - 2; axis-- > 0;) {
        const std::size_t inner = mask.heads.size();
        mask.heads.resize(inner * sizes[axis]);
        for (std::size_t i = inner; i < mask.heads.size(); ++i) mask.heads[i] = mask.heads[i - inner] + steps[axis];
    }
    return mask;
}

// True or False, NumPy's too.
bool truth_of(nb::handle causal) {
    const int truth = PyObject_IsTrue(causal.ptr());
    if (truth < 0) throw nb::python_error();
    return truth != 0;
}

// Any whole number, as far as it matters.
std::ptrdiff_t offset_of(nb::handle causal_offset) {
    const nb::object index = nb::steal(PyNumber_Index(causal_offset.ptr()));
    if (!index.is_valid()) throw nb::python_error();
    int overflow = 0;
    const long long value = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
    constexpr long long kLimit = 1LL << 62;
    if (overflow != 0) return static_cast<std::ptrdiff_t>(overflow * kLimit);
    return static_cast<std::ptrdiff_t>(std::clamp(value, -kLimit, kLimit));
}

nb::object py_attention(nb::handle q, nb::handle k, nb::handle v, nb::handle mask, nb::handle causal,
                        nb::handle causal_offset, std::optional<double> scale, double softcap, nb::handle out,
                        int threads) {
    checked_threads(threads);
    PlainInput queries(q, "q"), key_rows(k, "k"), value_rows(v, "v");
    Attention request = sizes(queries.array(), key_rows.array(), value_rows.array());
    if (!std::isfinite(softcap) || softcap < 0) invalid("softcap: expected a finite number from 0");
    if (scale && !std::isfinite(*scale)) invalid("scale: expected a finite number, or None");
    request.scale = static_cast<float>(scale ? *scale : 1.0 / std::sqrt(static_cast<double>(request.depth)));
    request.softcap = static_cast<float>(softcap);
    request.causal = truth_of(causal);
    request.causal_offset = offset_of(causal_offset);

    std::vector<std::size_t> shape;
    for (int axis = 0; axis < queries.array().ndim() - 1; ++axis) shape.push_back(queries.array().size(axis));
    shape.push_back(request.value_depth);
    const Result result(out, static_cast<int>(shape.size()), shape.data());
    request.out = result.data();
    std::size_t bytes = sizeof(float);
    for (const std::size_t size : shape) bytes *= size;

    std::optional<Array> mask_array;
    if (!mask.is_none()) {
        mask_array.emplace(mask, "mask");
        if (overlaps(*mask_array, request.out, bytes)) mask_array.emplace(plain_copy(mask), "mask");
        request.mask = mask_of(*mask_array, queries.array(), request.keys);
    }
    for (PlainInput* input : {&queries, &key_rows, &value_rows}) input->prepare(request.out, bytes);
    request.q = queries.data();
    request.k = key_rows.data();
    request.v = value_rows.data();
    {
        const nb::gil_scoped_release released;
        attention(request, threads);
    }
    return result.finish();
}

}  // namespace

void bind_attention(nb::module_& m) {
    m.def("attention", &py_attention, "q"_a, "k"_a, "v"_a, "mask"_a = nb::none(), nb::kw_only(), "causal"_a = false,
          "causal_offset"_a = 0, "scale"_a = nb::none(), "softcap"_a = 0.0, "out"_a = nb::none(), "threads"_a = 1,
          "softmax(cap(q k^T scale) + mask) v for each head, as ONNX Attention (opset 23, later) defines it, in "
          "float32: q (..., heads, length, depth), k (..., key heads, keys, depth), v (..., key heads, keys, value "
          "depth), or all three without leading axes and heads. mask broadcasts to (..., heads, length, keys), bool "
          "(True takes part) or float32 (added). causal: query i sees keys up to i + causal_offset. scale: None is 1 / "
          "sqrt(depth). softcap: 0 is none. A query that sees no key gives zeros; NaN and infinities in q, k or v "
          "give NaN in the rows that they reach, or count as a score of minus infinity.");
    // With the number of threads settled: what an opener hands out, without the cost of a wrapper.
    m.def(
        "open_attention",
        [](int threads) {
            checked_threads(threads);
            return nb::cpp_function(
                [threads](nb::handle q, nb::handle k, nb::handle v, nb::handle mask, nb::handle causal,
                          nb::handle causal_offset, std::optional<double> scale, double softcap, nb::handle out) {
                    return py_attention(q, k, v, mask, causal, causal_offset, scale, softcap, out, threads);
                },
                nb::name("attention"), "q"_a, "k"_a, "v"_a, "mask"_a = nb::none(), nb::kw_only(), "causal"_a = false,
                "causal_offset"_a = 0, "scale"_a = nb::none(), "softcap"_a = 0.0, "out"_a = nb::none());
        },
        "threads"_a);
}

}  // namespace assay_kernels::ASSAY_SET
