#include <algorithm>

#include "fuzz.hpp"
#include "mel.hpp"

namespace assay_kernels::ASSAY_SET {

namespace {

// A request of any length, layout and type gives what its plain copy gives, with any number of threads.
void fuzz_audio(Rng& rng) {
    const std::size_t samples = rng.one_in(8) ? rng.between(0, 60000) : rng.between(0, 3000);
    const bool center = rng.one_in(2);
    const int n_mels = rng.one_in(2) ? 80 : 128;
    const bool pcm = rng.one_in(3);
    const std::size_t frames = mel_frames(samples, center);
    require((frames > 0) == (samples >= (center ? 201u : 400u)), "the least number of samples");
    if (frames == 0) return;

    std::vector<float> floats(samples);
    std::vector<std::int16_t> shorts(samples);
    for (std::size_t i = 0; i < samples; ++i) {
        floats[i] = rng.one_in(100) ? 0.0f : rng.uniform();
        shorts[i] = static_cast<std::int16_t>(rng.next());
    }
    const auto type = pcm ? Audio::Sample::int16 : Audio::Sample::float32;
    const std::size_t size = pcm ? 2 : 4;
    const void* plain = pcm ? static_cast<const void*>(shorts.data()) : floats.data();
    const Strided layout(rng, plain, samples, size);
    const Audio audio{static_cast<const unsigned char*>(plain), static_cast<std::ptrdiff_t>(size), samples, type};
    const Audio odd{layout.first(), layout.stride(), samples, type};

    const std::size_t count = frames * static_cast<std::size_t>(n_mels);
    const Buffer expected(count * sizeof(float)), found(count * sizeof(float));
    std::memset(expected.bytes(), 0xff, count * sizeof(float));
    std::memset(found.bytes(), 0xff, count * sizeof(float));
    require(log_mel(audio, n_mels, center, 1, expected.floats()) == MelStatus::done, "plain audio");
    require(log_mel(odd, n_mels, center, static_cast<int>(rng.between(1, 4)), found.floats()) == MelStatus::done,
            "audio of any layout");
    require_same(expected.floats(), found.floats(), count, "layout and threads make no difference");

    const auto [low, high] = std::minmax_element(expected.floats(), expected.floats() + count);
    require(*low >= *high - 2.0f && *low >= -1.5001f, "the floor");

    if (pcm) return;
    static const float bad[] = {__builtin_nanf(""), __builtin_inff(), -__builtin_inff()};
    floats[rng.between(0, samples - 1)] = bad[rng.between(0, 2)];
    require(log_mel(audio, n_mels, center, 2, found.floats()) == MelStatus::not_finite, "a bad sample");
}

void fuzz_frames(Rng& rng) {
    const std::size_t count = rng.between(0, 40);
    const int n_mels = rng.one_in(2) ? 80 : 128;
    std::vector<float> plain(count * 400);
    for (float& x : plain) x = rng.uniform();

    // Frames apart, overlapping, or backwards, of samples apart or not.
    const std::ptrdiff_t sample_stride = rng.one_in(2) ? 4 : static_cast<std::ptrdiff_t>(rng.between(5, 9));
    const std::ptrdiff_t row = 399 * sample_stride + 4;
    const std::ptrdiff_t frame_stride = row + static_cast<std::ptrdiff_t>(rng.between(0, 5));
    const bool backwards = rng.one_in(3);
    const std::ptrdiff_t last = count == 0 ? 0 : static_cast<std::ptrdiff_t>(count - 1) * frame_stride;
    const Buffer room(count == 0 ? 0 : static_cast<std::size_t>(last + row), rng.between(0, 3));
    unsigned char* first = room.bytes() + (backwards ? last : 0);
    const Frames odd{first, backwards ? -frame_stride : frame_stride, sample_stride, count};
    for (std::size_t f = 0; f < count; ++f) {
        for (int n = 0; n < 400; ++n) {
            unsigned char* to = first + static_cast<std::ptrdiff_t>(f) * odd.frame_stride + n * sample_stride;
            std::memcpy(to, &plain[f * 400 + static_cast<std::size_t>(n)], sizeof(float));
        }
    }

    const std::size_t results = count * static_cast<std::size_t>(n_mels);
    const Buffer expected(results * sizeof(float)), found(results * sizeof(float));
    const Frames frames{reinterpret_cast<const unsigned char*>(plain.data()), 1600, 4, count};
    require(log_mel_frames(frames, n_mels, 1, expected.floats()) == MelStatus::done, "plain frames");
    require(log_mel_frames(odd, n_mels, static_cast<int>(rng.between(1, 4)), found.floats()) == MelStatus::done,
            "frames of any layout");
    require_same(expected.floats(), found.floats(), results, "layout and threads make no difference to frames");
}

const Target audio_target("mel", fuzz_audio);
const Target frames_target("mel frames", fuzz_frames);

}  // namespace

}  // namespace assay_kernels::ASSAY_SET
