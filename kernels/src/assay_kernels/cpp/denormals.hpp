// Denormal numbers are read and written as zero while one of these lives, on the thread that made it.
//
// Numbers below 1e-38 take a slow path in many CPUs. Worth it only where such values can't matter.
#pragma once

#include <cstdint>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace assay_kernels::ASSAY_SET {

class DenormalsAreZero {
  public:
    DenormalsAreZero(const DenormalsAreZero&) = delete;
    DenormalsAreZero& operator=(const DenormalsAreZero&) = delete;

#if defined(__SSE__)
    DenormalsAreZero() : before_(_mm_getcsr()) { _mm_setcsr(before_ | kFlushToZero | kDenormalsAreZero); }
    ~DenormalsAreZero() { _mm_setcsr(before_); }

  private:
    static constexpr unsigned kFlushToZero = 0x8000;
    static constexpr unsigned kDenormalsAreZero = 0x0040;
    unsigned before_;
#elif defined(__aarch64__)
    DenormalsAreZero() {
        asm volatile("mrs %0, fpcr" : "=r"(before_));
        asm volatile("msr fpcr, %0" ::"r"(before_ | kFlushToZero));
    }
    ~DenormalsAreZero() { asm volatile("msr fpcr, %0" ::"r"(before_)); }

  private:
    static constexpr std::uint64_t kFlushToZero = std::uint64_t{1} << 24;
    std::uint64_t before_;
#else
    DenormalsAreZero() {}  // elsewhere they are right and may be slow
#endif
};

}  // namespace assay_kernels::ASSAY_SET
