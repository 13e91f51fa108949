// Runs every fuzzer for so many seconds: fuzz_<set> [seconds] [seed]. The seed repeats a run.
#include <chrono>
#include <random>

#include "fuzz.hpp"
#include "simd.hpp"

using namespace assay_kernels::ASSAY_SET;

int main(int argc, char** argv) {
    const double seconds = argc > 1 ? std::atof(argv[1]) : 5.0;
    const std::uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : std::random_device{}();
    std::printf("%2d lanes, seed %llu\n", kLanes, static_cast<unsigned long long>(seed));
    std::fflush(stdout);
    for (const Target* target : Target::all()) {
        using Clock = std::chrono::steady_clock;
        const Clock::time_point end = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                                         std::chrono::duration<double>(seconds));
        unsigned long long requests = 0;
        for (; requests == 0 || Clock::now() < end; ++requests) {
            Rng rng(seed + requests);
            target->fuzz(rng);
        }
        std::printf("  %s: %llu requests\n", target->name, requests);
        std::fflush(stdout);
    }
}
