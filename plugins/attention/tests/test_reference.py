"""The float64 reference against the definition written as loops over single numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from assay_attention.reference import reference


def by_hand(q, k, v, sees, bias, scale, softcap):
    """One head, number by number."""
    result = np.zeros((len(q), v.shape[1]))
    for i, query in enumerate(q):
        weights = []
        for j, key in enumerate(k):
            score = math.fsum(a * b for a, b in zip(query, key, strict=True)) * scale
            if softcap:
                score = softcap * math.tanh(score / softcap)
            weights.append(math.exp(score + bias[i, j]) if sees[i, j] else 0.0)
        total = math.fsum(weights)
        for e in range(v.shape[1]):
            products = [weight * float(value) for weight, value in zip(weights, v[:, e], strict=True)]
            result[i, e] = math.fsum(products) / total if total else 0.0
    return result


@pytest.mark.parametrize("softcap", [0.0, 1.5])
@pytest.mark.parametrize("scale", [None, 0.7])
@pytest.mark.parametrize("offset", [None, 0, 2, -3])
@pytest.mark.parametrize("masked", ["no", "boolean", "additive"])
def test_definition(softcap, scale, offset, masked):
    """Grouped heads, every kind of mask, the causal rule, softcap and scale."""
    rng = np.random.default_rng(3)
    q, k, v = rng.normal(size=(4, 6, 5)), rng.normal(size=(2, 7, 5)), rng.normal(size=(2, 7, 3))
    mask = {
        "no": None,
        "boolean": rng.random((4, 6, 7)) < 0.6,
        "additive": np.where(rng.random((4, 6, 7)) < 0.6, rng.normal(size=(4, 6, 7)), -np.inf),
    }[masked]
    params = {"softcap": softcap, "scale": scale, "causal": offset is not None, "causal_offset": offset or 0}

    got = reference(q, k, v, mask, **params)

    for head in range(4):
        sees, bias = np.ones((6, 7), bool), np.zeros((6, 7))
        if masked == "boolean":
            sees = mask[head].copy()
        if masked == "additive":
            sees, bias = np.isfinite(mask[head]), np.where(np.isfinite(mask[head]), mask[head], 0)
        if offset is not None:
            for i in range(6):
                sees[i, max(0, i + offset + 1) :] = False
        shared = head // 2
        expected = by_hand(q[head], k[shared], v[shared], sees, bias, scale or 1 / math.sqrt(5), softcap)
        np.testing.assert_allclose(got[head], expected, rtol=1e-12, atol=1e-14)


def test_long_sequences_are_cut_into_blocks_of_queries():
    """Every query sees every key, whatever block it is in."""
    rng = np.random.default_rng(4)
    q, k, v = rng.normal(size=(600, 8)), rng.normal(size=(700, 8)), rng.normal(size=(700, 8))

    weights = np.exp(q @ k.T / math.sqrt(8))
    expected = weights @ v / weights.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(reference(q, k, v), expected, rtol=1e-12, atol=1e-14)


def test_nothing_to_see_gives_zeros():
    """No keys, and a row that is masked throughout."""
    q, k = np.ones((2, 3, 4)), np.ones((2, 0, 4))
    np.testing.assert_array_equal(np.zeros((2, 3, 4)), reference(q, k, k))

    sees = np.array([[True], [False], [True]])
    result = reference(q, q, q, sees)
    np.testing.assert_array_equal([1, 0, 1], result[0, :, 0])
