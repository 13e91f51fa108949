#include "arrays.hpp"

#include <cstring>
#include <string>
#include <vector>

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

std::string shape_text(int ndim, const std::size_t* shape) {
    std::string text = "(";
    for (int axis = 0; axis < ndim; ++axis) text += (axis ? ", " : "") + std::to_string(shape[axis]);
    return text + (ndim == 1 ? ",)" : ")");
}

}  // namespace

Array::Array(nb::handle object, const char* name, bool writable) {
    const int flags = PyBUF_STRIDES | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0);
    if (PyObject_GetBuffer(object.ptr(), &view_, flags) != 0) {
        nb::python_error cause;  // takes the error over, to chain it
        if (PyObject_CheckBuffer(object.ptr())) {
            nb::raise_from(cause, PyExc_ValueError, "%s: expected %s array", name,
                           writable ? "a writable" : "a numeric");
        }
        nb::raise_from(cause, PyExc_TypeError, "%s: expected a numpy.ndarray, found %s", name,
                       Py_TYPE(object.ptr())->tp_name);
    }
    type_ = type_of(view_.format);
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

std::string Array::describe() const {
    std::vector<std::size_t> shape(static_cast<std::size_t>(ndim()));
    for (int axis = 0; axis < ndim(); ++axis) shape[static_cast<std::size_t>(axis)] = size(axis);
    return std::string("dtype ") + (view_.format ? view_.format : "B") + ", shape " + shape_text(ndim(), shape.data());
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

Result::Result(nb::handle out, int ndim, const std::size_t* shape) : out_(nb::borrow(out)) {
    if (!out.is_none()) {
        view_.emplace(out, "out", true);
        bool right = view_->type() == 'f' && view_->ndim() == ndim;
        for (int axis = 0; right && axis < ndim; ++axis) right = view_->size(axis) == shape[axis];
        if (!right) {
            PyErr_Format(PyExc_ValueError, "out: expected float32, shape %s, found %s", shape_text(ndim, shape).c_str(),
                         view_->describe().c_str());
            throw nb::python_error();
        }
    }
    if (out.is_none() || !view_->plain()) {
        array_ = empty_float32(ndim, shape);
        view_.emplace(array_, "result", true);
    }
    data_ = static_cast<float*>(view_->data());
}

nb::object Result::finish() const {
    if (out_.is_none()) return array_;
    if (array_.is_valid()) out_[nb::ellipsis()] = array_;
    return out_;
}

int checked_threads(int threads) {
    if (threads < 1) throw nb::value_error("threads: expected 1 or more");
    return threads;
}

}  // namespace assay_kernels::ASSAY_SET
