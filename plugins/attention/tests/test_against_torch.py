"""Random requests against PyTorch in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.peers

sizes = st.integers(1, 40)


@given(
    batch=st.integers(1, 3),
    key_heads=st.integers(1, 3),
    group=st.integers(1, 3),
    length=sizes,
    keys=sizes,
    depth=sizes,
    value_depth=sizes,
    causal=st.booleans(),
    mask=st.sampled_from([None, "boolean", "additive"]),
    scale=st.none() | st.floats(0.01, 0.5),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_agrees_with_torch(
    attention, batch, key_heads, group, length, keys, depth, value_depth, causal, mask, scale, seed
):
    """Any sizes, groups and masks, computed by PyTorch from its own tensors in double precision."""
    import torch

    rng = np.random.default_rng(seed)
    q = rng.normal(size=(batch, key_heads * group, length, depth)).astype(np.float32)
    k = rng.normal(size=(batch, key_heads, keys, depth)).astype(np.float32)
    v = rng.uniform(-1, 1, size=(batch, key_heads, keys, value_depth)).astype(np.float32)
    sees = rng.random((batch, 1, length, keys)) < 0.7
    additive = np.where(sees, 0, -np.inf).astype(np.float32)
    given_mask = {None: None, "boolean": sees, "additive": additive}[mask]

    wide = [torch.from_numpy(x).double() for x in (q, k, v)]
    seen = torch.from_numpy(sees) if mask else torch.ones(length, keys, dtype=torch.bool)
    if causal:
        seen = seen & torch.ones(length, keys, dtype=torch.bool).tril()
    score = wide[0] @ wide[1].repeat_interleave(group, dim=1).mT * (depth**-0.5 if scale is None else scale)
    largest = float(score.abs().max())
    weight = score.masked_fill(~seen, -torch.inf).softmax(dim=-1).nan_to_num(0.0)
    expected = (weight @ wide[2].repeat_interleave(group, dim=1)).numpy()

    got = attention(q, k, v, mask=given_mask, causal=causal, scale=scale)
    assert np.abs(got - expected).max() <= 2e-6 * max(1, largest / 3)
