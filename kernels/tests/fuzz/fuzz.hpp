// What a fuzzer of one kernel needs: random requests, buffers with nothing but redzones around them.
//
// A file fuzz_<kernel>.cpp in this folder is a fuzzer: it has a Target, which the driver runs until its time is up.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

namespace assay_kernels::ASSAY_SET {

class Rng {
  public:
    explicit Rng(std::uint64_t seed) : state_(seed) {}

    // splitmix64 (Steele, Lea, Flood 2014)
    std::uint64_t next() {
        std::uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
    }
    std::size_t between(std::size_t low, std::size_t high) { return low + next() % (high - low + 1); }
    bool one_in(std::size_t n) { return next() % n == 0; }
    float uniform() { return static_cast<float>(next() >> 40) * 0x1p-23f - 1.0f; }  // in [-1, 1)

    // Mostly plain numbers, now and then the ones that need care.
    float any_float() {
        static const float special[] = {0.0f, -0.0f, 1e-40f, 1e-30f, 1e30f, -1e30f, 3.4e38f, -3.4e38f};
        return one_in(50) ? special[next() % 8] : uniform() * (one_in(4) ? 20.0f : 1.0f);
    }

  private:
    std::uint64_t state_;
};

// Exactly so many bytes on the heap, their start as misaligned as asked: the sanitizer sees one byte too many.
class Buffer {
  public:
    Buffer(std::size_t bytes, std::size_t misaligned = 0)
        : room_(new unsigned char[bytes + misaligned]), start_(room_.get() + misaligned) {}
    unsigned char* bytes() const { return start_; }
    float* floats() const { return reinterpret_cast<float*>(start_); }

  private:
    std::unique_ptr<unsigned char[]> room_;
    unsigned char* start_;
};

// A plain array of `count` numbers of four bytes or fewer, as a one-dimensional array of any stride and alignment.
class Strided {
  public:
    Strided(Rng& rng, const void* plain, std::size_t count, std::size_t size) {
        const std::size_t step = rng.one_in(2) ? size : size * rng.between(1, 3) + rng.between(0, 3);
        const bool backwards = rng.one_in(3);
        const std::size_t last = count == 0 ? 0 : (count - 1) * step;
        buffer_ = std::make_unique<Buffer>(count == 0 ? 0 : last + size, rng.between(0, 3));
        first_ = buffer_->bytes() + (backwards ? last : 0);
        stride_ = backwards ? -static_cast<std::ptrdiff_t>(step) : static_cast<std::ptrdiff_t>(step);
        for (std::size_t i = 0; i < count; ++i) {
            std::memcpy(first_ + static_cast<std::ptrdiff_t>(i) * stride_, static_cast<const char*>(plain) + i * size,
                        size);
        }
    }
    const unsigned char* first() const { return first_; }
    std::ptrdiff_t stride() const { return stride_; }

  private:
    std::unique_ptr<Buffer> buffer_;
    unsigned char* first_;
    std::ptrdiff_t stride_;
};

inline std::vector<float> random_floats(Rng& rng, std::size_t count) {
    std::vector<float> values(count);
    for (float& value : values) value = rng.any_float();
    return values;
}

// Ends the program with a message unless `right`.
inline void require(bool right, const char* what) {
    if (right) return;
    std::fprintf(stderr, "fuzz: wrong: %s\n", what);
    std::abort();
}

inline void require_same(const float* a, const float* b, std::size_t count, const char* what) {
    require(count == 0 || std::memcmp(a, b, count * sizeof(float)) == 0, what);
}

struct Target {
    const char* name;
    void (*fuzz)(Rng& rng);  // one request

    Target(const char* name, void (*fuzz)(Rng&)) : name(name), fuzz(fuzz) { all().push_back(this); }
    static std::vector<const Target*>& all() {
        static std::vector<const Target*> targets;
        return targets;
    }
};

}  // namespace assay_kernels::ASSAY_SET
