#!/bin/sh
# Fuzzes the kernels of every set under AddressSanitizer and UndefinedBehaviorSanitizer, and those of one set
# under ThreadSanitizer.
#
#     kernels/tests/sanitize.sh [seconds for each kernel, set and sanitizer; 1]
#
# Takes cmake and GCC or Clang with their sanitizers' libraries; no Python.
set -eu

seconds=${1:-1}
kernels=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$kernels/build"
export UBSAN_OPTIONS=print_stacktrace=1
export TSAN_OPTIONS=halt_on_error=1

for sanitizer in address,undefined thread; do
    build=$kernels/build/fuzz-$(echo "$sanitizer" | tr , -)
    cmake -S "$kernels" -B "$build" -DASSAY_KERNELS_FUZZ="$sanitizer" >"$kernels/build/fuzz.log" ||
        { cat "$kernels/build/fuzz.log"; exit 1; }
    targets=
    if [ "$sanitizer" = thread ]; then targets="--target fuzz_baseline"; fi
    # shellcheck disable=SC2086 # no target is no word
    cmake --build "$build" --parallel 2 $targets >"$kernels/build/fuzz.log" || { cat "$kernels/build/fuzz.log"; exit 1; }
    echo "sanitizer: $sanitizer"
    for fuzz in "$build"/fuzz_*; do
        case $fuzz in
        *_avx2 | *_wide) grep -qw avx2 /proc/cpuinfo || { echo "$fuzz: left out, this CPU has no AVX2"; continue; } ;;
        esac
        # ThreadSanitizer's memory map needs an address space that isn't shuffled too widely.
        if [ "$sanitizer" = thread ] && command -v setarch >/dev/null; then
            setarch --addr-no-randomize "$fuzz" "$seconds"
        else
            "$fuzz" "$seconds"
        fi
    done
done
echo "sanitize: nothing found"
