// Whisper's log-mel spectrogram.
#pragma once

#include <cstddef>
#include <cstdint>

namespace assay_kernels::ASSAY_SET {

// Samples as the caller has them: any stride, any alignment.
struct Audio {
    enum class Sample { float32, int16 };

    const unsigned char* data;
    std::ptrdiff_t stride;  // in bytes
    std::size_t samples;
    Sample type;
};

// Frames of 400 float32 samples, not windowed.
struct Frames {
    const unsigned char* data;
    std::ptrdiff_t frame_stride, sample_stride;  // in bytes
    std::size_t frames;
};

enum class MelStatus {
    done,
    not_finite,  // a sample is NaN or infinite
    overflow,    // the samples are finite, and their power isn't, in float32
};

// Frames that log_mel makes of so many samples; 0 if they are too few: below 201, or 400 if not centred.
std::size_t mel_frames(std::size_t samples, bool center);

// Fills out, C-contiguous (n_mels, mel_frames). n_mels is 80 or 128.
MelStatus log_mel(const Audio& audio, int n_mels, bool center, int threads, float* out);

// Fills out, C-contiguous (frames, n_mels), with log10(max(power, 1e-10)).
MelStatus log_mel_frames(const Frames& frames, int n_mels, int threads, float* out);

}  // namespace assay_kernels::ASSAY_SET
