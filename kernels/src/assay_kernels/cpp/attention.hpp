// Scaled dot-product attention of float32 arrays.
#pragma once

#include <cstddef>
#include <vector>

namespace assay_kernels::ASSAY_SET {

enum class MaskKind {
    none,
    boolean,   // one byte, not zero where a key takes part
    additive,  // float32, added to the score
};

// For each head, where its (length, keys) begin. Distances are in bytes, zero along what is broadcast; any alignment.
struct Mask {
    MaskKind kind = MaskKind::none;
    std::vector<const unsigned char*> heads;
    std::ptrdiff_t row_step = 0;
    std::ptrdiff_t key_step = 0;
};

// One request: plain arrays, each of the key heads with `group` neighbouring heads of q.
struct Attention {
    std::size_t key_heads;  // of all sequences together
    std::size_t group;
    std::size_t length;
    std::size_t keys;
    std::size_t depth;
    std::size_t value_depth;
    const float* q;  // (key heads, group, length, depth)
    const float* k;  // (key heads, keys, depth)
    const float* v;  // (key heads, keys, value depth)
    float* out;      // (key heads, group, length, value depth); overlaps none of the others
    Mask mask;
    bool causal;                   // query i sees keys up to i + causal_offset
    std::ptrdiff_t causal_offset;  // at most 2^62 either way
    float scale;
    float softcap;  // zero: none
};

// A query that sees no key gives zeros. NaN in q, k, v or an additive mask gives NaN in every row that it reaches, and
// so does a score of plus infinity; a score of minus infinity leaves its key out. Denormal numbers count as zero.
void attention(const Attention& request, int threads);

}  // namespace assay_kernels::ASSAY_SET
