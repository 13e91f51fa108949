// log_mel and log_mel_frames as Python sees them.
#include <nanobind/nanobind.h>

#include "arrays.hpp"
#include "mel.hpp"

namespace assay_kernels::ASSAY_SET {

namespace {

using namespace nb::literals;

[[noreturn]] void fail(PyObject* type, const char* format, const Array& found) {
    PyErr_Format(type, format, found.describe().c_str());
    throw nb::python_error();
}

void check_n_mels(int n_mels) {
    if (n_mels != 80 && n_mels != 128) {
        PyErr_Format(PyExc_ValueError, "n_mels: expected 80 or 128, found %d", n_mels);
        throw nb::python_error();
    }
}

void raise(MelStatus status, const char* what) {
    if (status == MelStatus::done) return;
    if (status == MelStatus::not_finite) {
        PyErr_Format(PyExc_FloatingPointError, "%s: found NaN or infinity; expected finite samples in [-1, 1]", what);
    } else {
        PyErr_Format(PyExc_OverflowError,
                     "%s: the power of these samples is beyond float32; expected samples in [-1, 1]", what);
    }
    throw nb::python_error();
}

nb::object py_log_mel(nb::handle audio, int n_mels, bool center, nb::handle out, int threads) {
    check_n_mels(n_mels);
    checked_threads(threads);
    const Array in(audio, "audio");
    if (in.type() != 'f' && in.type() != 'h') fail(PyExc_TypeError, "audio: expected float32 or int16, found %s", in);
    if (in.ndim() != 1) fail(PyExc_ValueError, "audio: expected shape (samples,), found %s", in);
    const std::size_t frames = mel_frames(in.size(0), center);
    if (frames == 0) {
        fail(PyExc_ValueError,
             center ? "audio: expected 201 samples or more with center=True, found %s; pad it"
                    : "audio: expected 400 samples or more with center=False, found %s; pad it",
             in);
    }
    const Audio samples{static_cast<const unsigned char*>(in.data()), in.stride(0), in.size(0),
                        in.type() == 'f' ? Audio::Sample::float32 : Audio::Sample::int16};
    const Result result(out, {static_cast<std::size_t>(n_mels), frames});
    MelStatus status;
    {
        const nb::gil_scoped_release released;
        status = log_mel(samples, n_mels, center, threads, result.data());
    }
    raise(status, "audio");
    return result.finish();
}

nb::object py_log_mel_frames(nb::handle frames, int n_mels, bool /*center*/, nb::handle out, int threads) {
    check_n_mels(n_mels);
    checked_threads(threads);
    const Array in(frames, "frames");
    if (in.type() != 'f') fail(PyExc_TypeError, "frames: expected float32, found %s", in);
    if (in.ndim() != 2 || in.size(1) != 400) fail(PyExc_ValueError, "frames: expected shape (n, 400), found %s", in);
    const Frames samples{static_cast<const unsigned char*>(in.data()), in.stride(0), in.stride(1), in.size(0)};
    const Result result(out, {in.size(0), static_cast<std::size_t>(n_mels)});
    MelStatus status;
    {
        const nb::gil_scoped_release released;
        status = log_mel_frames(samples, n_mels, threads, result.data());
    }
    raise(status, "frames");
    return result.finish();
}

using Function = nb::object (*)(nb::handle, int, bool, nb::handle, int);

// The function with its number of threads settled: what an opener hands out, without the cost of a wrapper.
template <Function function>
nb::object opened(int threads, const char* name, const char* input) {
    checked_threads(threads);
    return nb::cpp_function(
        [threads](nb::handle in, int n_mels, bool center, nb::handle out) {
            return function(in, n_mels, center, out, threads);
        },
        nb::name(name), nb::arg(input), nb::kw_only(), "n_mels"_a = 80, "center"_a = true, "out"_a = nb::none());
}

}  // namespace

void bind_mel(nb::module_& m) {
    m.def("log_mel", &py_log_mel, "audio"_a, nb::kw_only(), "n_mels"_a = 80, "center"_a = true, "out"_a = nb::none(),
          "threads"_a = 1,
          "Whisper's log-mel of mono 16 kHz audio, float32 in [-1, 1] or int16, (samples,): float32 (n_mels, frames).");
    m.def("log_mel_frames", &py_log_mel_frames, "frames"_a, nb::kw_only(), "n_mels"_a = 80, "center"_a = true,
          "out"_a = nb::none(), "threads"_a = 1,
          "log10(max(power, 1e-10)) of the mel powers of float32 frames (n, 400), not windowed: float32 (n, n_mels). "
          "Frames are as they are: center has been dealt with by whoever cut them.");
    m.def("open_log_mel", [](int threads) { return opened<py_log_mel>(threads, "log_mel", "audio"); }, "threads"_a);
    m.def("open_log_mel_frames",
          [](int threads) { return opened<py_log_mel_frames>(threads, "log_mel_frames", "frames"); }, "threads"_a);
}

}  // namespace assay_kernels::ASSAY_SET
