#include <cmath>
#include <limits>

#include "attention.hpp"
#include "fuzz.hpp"

namespace assay_kernels::ASSAY_SET {

namespace {

// Copies at the very end of their memory, so that reading on is seen.
Buffer exactly(const std::vector<float>& values) {
    Buffer buffer(values.size() * sizeof(float), 4);
    if (!values.empty()) std::memcpy(buffer.bytes(), values.data(), values.size() * sizeof(float));
    return buffer;
}

std::vector<float> uniform(Rng& rng, std::size_t count) {
    std::vector<float> values(count);
    for (float& x : values) x = rng.uniform();
    return values;
}

// A mask of its own for each head, of any strides, and what it adds to each score.
struct RandomMask {
    RandomMask(Rng& rng, std::size_t heads, std::size_t length, std::size_t keys) {
        const std::size_t size = rng.one_in(2) ? 1 : sizeof(float);
        const std::size_t key_step = size * rng.between(1, 3);
        const std::size_t row_step = key_step * keys + rng.between(0, 9);
        room = std::make_unique<Buffer>(heads * length * row_step + size, rng.between(0, 3));
        mask.kind = size == 1 ? MaskKind::boolean : MaskKind::additive;
        mask.key_step = static_cast<std::ptrdiff_t>(key_step);
        mask.row_step = static_cast<std::ptrdiff_t>(row_step);
        for (std::size_t row = 0; row < heads * length; ++row) {
            for (std::size_t j = 0; j < keys; ++j) {
                const bool out = rng.one_in(4);
                const float value = out ? -std::numeric_limits<float>::infinity() : rng.uniform();
                const unsigned char takes_part = !out;
                const void* element = size == 1 ? static_cast<const void*>(&takes_part) : &value;
                std::memcpy(room->bytes() + row * row_step + j * key_step, element, size);
                added.push_back(size == 1 && !out ? 0.0 : value);
            }
        }
        for (std::size_t h = 0; h < heads; ++h) mask.heads.push_back(room->bytes() + h * length * row_step);
    }

    Mask mask;
    std::vector<double> added;  // (heads, length, keys)
    std::unique_ptr<Buffer> room;
};

// One row of the result, from the definition.
std::vector<double> row_of(const Attention& a, std::size_t head, std::size_t i, const double* added) {
    const float* q = a.q + (head * a.length + i) * a.depth;
    const float* k = a.k + head / a.group * a.keys * a.depth;
    const float* v = a.v + head / a.group * a.keys * a.value_depth;
    std::vector<double> row(a.value_depth, 0.0);
    double total = 0.0;
    for (std::size_t j = 0; j < a.keys; ++j) {
        if (a.causal && static_cast<std::ptrdiff_t>(j) > static_cast<std::ptrdiff_t>(i) + a.causal_offset) continue;
        double score = 0.0;
        for (std::size_t d = 0; d < a.depth; ++d) score += static_cast<double>(q[d]) * k[j * a.depth + d];
        score *= a.scale;
        if (a.softcap > 0) score = a.softcap * std::tanh(score / a.softcap);
        const double weight = std::exp(score + (added != nullptr ? added[j] : 0.0));
        total += weight;
        for (std::size_t e = 0; e < a.value_depth; ++e) row[e] += weight * v[j * a.value_depth + e];
    }
    for (double& x : row) x = total > 0.0 ? x / total : 0.0;
    return row;
}

// Any sizes, masks and parameters give what the definition gives, whatever the number of threads.
void fuzz_attention(Rng& rng) {
    Attention a{};
    const std::size_t most = rng.one_in(10) ? 150 : 40;
    a.key_heads = rng.between(0, 3);
    a.group = rng.between(1, 3);
    a.length = rng.between(0, most);
    a.keys = rng.between(0, most);
    a.depth = rng.one_in(3) ? 64 : rng.between(1, 140);
    a.value_depth = rng.one_in(3) ? 64 : rng.between(0, 140);
    a.causal = rng.one_in(2);
    a.causal_offset = static_cast<std::ptrdiff_t>(rng.between(0, 40)) - 20;
    a.scale = 1.0f / std::sqrt(static_cast<float>(a.depth));
    a.softcap = rng.one_in(3) ? 5.0f : 0.0f;
    const std::size_t heads = a.key_heads * a.group;
    const Buffer q = exactly(uniform(rng, heads * a.length * a.depth));
    const Buffer k = exactly(uniform(rng, a.key_heads * a.keys * a.depth));
    const Buffer v = exactly(uniform(rng, a.key_heads * a.keys * a.value_depth));
    a.q = q.floats();
    a.k = k.floats();
    a.v = v.floats();
    std::unique_ptr<RandomMask> random;
    if (rng.one_in(2)) {
        random = std::make_unique<RandomMask>(rng, heads, a.length, a.keys);
        a.mask = random->mask;
    }
    const std::size_t results = heads * a.length * a.value_depth;
    const Buffer one(results * sizeof(float), 4), many(results * sizeof(float), 4);
    std::memset(one.bytes(), 0xff, results * sizeof(float));
    std::memset(many.bytes(), 0xff, results * sizeof(float));

    a.out = one.floats();
    attention(a, 1);
    a.out = many.floats();
    attention(a, static_cast<int>(rng.between(2, 4)));

    require_same(one.floats(), many.floats(), results, "attention on threads");
    for (std::size_t row = 0; row < heads * a.length; ++row) {
        const double* added = random ? random->added.data() + row * a.keys : nullptr;
        const std::vector<double> right = row_of(a, row / a.length, row % a.length, added);
        for (std::size_t e = 0; e < a.value_depth; ++e) {
            require(std::fabs(one.floats()[row * a.value_depth + e] - right[e]) < 4e-6, "attention of one query");
        }
    }
}

const Target target("attention", fuzz_attention);

}  // namespace

}  // namespace assay_kernels::ASSAY_SET
