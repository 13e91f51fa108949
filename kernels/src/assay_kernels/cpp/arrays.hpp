// NumPy arrays at the module's boundary, through the buffer protocol.
//
// A view is taken of whatever array the caller has: any strides, any alignment, read-only or not. Kernels decide
// what they read in place. Everything here needs the GIL.
#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>

namespace assay_kernels::ASSAY_SET {

namespace nb = nanobind;

// A view of a Python buffer, released when it goes out of scope.
class Array {
  public:
    // Raises TypeError, naming `name`, if `object` has no buffer; ValueError if it is read-only and must not be.
    Array(nb::handle object, const char* name, bool writable = false);
    ~Array() { PyBuffer_Release(&view_); }
    Array(const Array&) = delete;
    Array& operator=(const Array&) = delete;

    int ndim() const { return view_.ndim; }
    std::size_t size(int axis) const { return static_cast<std::size_t>(view_.shape[axis]); }
    std::ptrdiff_t stride(int axis) const { return view_.strides[axis]; }  // in bytes
    std::size_t elements() const;
    void* data() const { return view_.buf; }

    // The element type as in Python's struct module ('f' float32, 'd' float64, 'h' int16, '?' bool ...);
    // 0 for one that is not in native byte order or not a plain number.
    char type() const { return type_; }
    // C-contiguous and aligned to its elements: what a kernel may read as a plain C array.
    bool plain() const;
    std::string describe() const;  // for messages: dtype and shape

  private:
    Py_buffer view_;
    char type_;
};

// A fresh C-contiguous float32 numpy.ndarray, not initialised: NumPy's own, so that large ones get its huge pages
// and small ones its cache.
nb::object empty_float32(int ndim, const std::size_t* shape);

inline nb::object empty_float32(std::initializer_list<std::size_t> shape) {
    return empty_float32(static_cast<int>(shape.size()), shape.begin());
}

// Where a kernel writes its result: the caller's `out`, if there is one.
class Result {
  public:
    // Raises ValueError if `out` isn't None nor a writable float32 array of this shape.
    Result(nb::handle out, std::initializer_list<std::size_t> shape)
        : Result(out, static_cast<int>(shape.size()), shape.begin()) {}
    Result(nb::handle out, int ndim, const std::size_t* shape);

    float* data() const { return data_; }  // C-contiguous
    // What to return to the caller: `out`, filled, or the fresh array.
    nb::object finish() const;

  private:
    nb::object out_;    // the caller's, or none
    nb::object array_;  // fresh, unless `out` can be written in place
    std::optional<Array> view_;
    float* data_;
};

// The `threads` argument of every kernel; raises ValueError below 1.
int checked_threads(int threads);

}  // namespace assay_kernels::ASSAY_SET
