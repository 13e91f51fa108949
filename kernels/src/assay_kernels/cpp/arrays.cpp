#include "arrays.hpp"

#include <cstring>
#include <string>

namespace assay_kernels::ASSAY_SET {

namespace {

bool little_endian() {
    const std::uint16_t one = 1;
    unsigned char first;
    std::memcpy(&first, &one, 1);
    return first == 1;
}

// The one type code in a buffer's format, if it is in native byte order.
char type_of(const char* format) {
    if (format == nullptr) return 'B';  // by the buffer protocol's definition
    const char* code = format;
    const char swapped = little_endian() ? '>' : '<';
    if (*code == swapped || *code == '!') return 0;
    if (std::strchr("@=<>^", *code) != nullptr && *code != 0) ++code;
    return code[0] != 0 && code[1] == 0 ? code[0] : 0;
}

}  // namespace

Array::Array(nb::handle object, const char* name, int flags) {
    if (PyObject_GetBuffer(object.ptr(), &view_, flags) != 0) {
        if (PyErr_ExceptionMatches(PyExc_BufferError) || PyErr_ExceptionMatches(PyExc_ValueError)) {
            nb::python_error cause;  // takes the error over, and chains it
            const bool write = (flags & PyBUF_WRITABLE) != 0;
            nb::raise_from(cause, PyExc_ValueError, "%s: expected %s array, found one that gives no buffer", name,
                           write ? "a writable" : "a numeric");
        }
        nb::python_error cause;
        nb::raise_from(cause, PyExc_TypeError, "%s: expected a numpy.ndarray, found %s", name,
                       Py_TYPE(object.ptr())->tp_name);
    }
    type_ = type_of(view_.format);
}

Array::Array(nb::handle object, const char* name) : Array(object, name, PyBUF_STRIDES | PyBUF_FORMAT) {}

Array Array::writable(nb::handle object, const char* name) {
    return Array(object, name, PyBUF_STRIDES | PyBUF_FORMAT | PyBUF_WRITABLE);
}

std::size_t Array::elements() const {
    std::size_t n = 1;
    for (int axis = 0; axis < ndim(); ++axis) n *= size(axis);
    return n;
}

bool Array::plain() const {
    if (reinterpret_cast<std::uintptr_t>(view_.buf) % static_cast<std::size_t>(view_.itemsize) != 0) return false;
    return PyBuffer_IsContiguous(&view_, 'C') != 0;
}

nb::str Array::describe() const {
    std::string text = std::string("dtype ") + (view_.format ? view_.format : "B") + ", shape (";
    for (int axis = 0; axis < ndim(); ++axis) {
        text += (axis ? ", " : "") + std::to_string(size(axis));
    }
    text += ndim() == 1 ? ",)" : ")";
    return nb::str(text.c_str());
}

nb::object empty_float32(int ndim, const std::size_t* shape) {
    static PyObject* const empty = nb::module_::import_("numpy").attr("empty").inc_ref().ptr();
    static PyObject* const float32 = nb::module_::import_("numpy").attr("dtype")("float32").inc_ref().ptr();
    nb::object dims = nb::steal(PyTuple_New(ndim));
    for (int axis = 0; axis < ndim; ++axis) {
        PyTuple_SET_ITEM(dims.ptr(), axis, PyLong_FromSize_t(shape[axis]));
    }
    PyObject* const args[] = {dims.ptr(), float32};
    PyObject* array = PyObject_Vectorcall(empty, args, 2, nullptr);
    if (array == nullptr) throw nb::python_error();
    return nb::steal(array);
}

int checked_threads(int threads) {
    if (threads < 1) throw nb::value_error("threads: expected 1 or more");
    return threads;
}

}  // namespace assay_kernels::ASSAY_SET
