// NumPy arrays at the module's boundary, through the buffer protocol.
//
// A view is taken of whatever array the caller has: any strides, any alignment, read-only or not. Kernels decide
// what they read in place. Everything here needs the GIL.
#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace assay_kernels::ASSAY_SET {

namespace nb = nanobind;

// A view of a Python buffer, released when it goes out of scope.
class Array {
  public:
    // Raises TypeError, naming `name`, if `object` has no buffer.
    Array(nb::handle object, const char* name);
    // The same, writable; raises ValueError if it is read-only.
    static Array writable(nb::handle object, const char* name);
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
    nb::str describe() const;  // for messages: dtype, shape

  private:
    Array(nb::handle object, const char* name, int flags);
    Py_buffer view_;
    char type_;
};

// A fresh C-contiguous float32 numpy.ndarray, not initialised: NumPy's own, so that large ones get its huge pages
// and small ones its cache.
nb::object empty_float32(int ndim, const std::size_t* shape);

inline nb::object empty_float32(std::initializer_list<std::size_t> shape) {
    return empty_float32(static_cast<int>(shape.size()), shape.begin());
}

// The `threads` argument of every kernel; raises ValueError below 1.
int checked_threads(int threads);

}  // namespace assay_kernels::ASSAY_SET
