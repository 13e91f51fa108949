"""Random requests against PyTorch in float64."""

from __future__ import annotations

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.peers


@given(
    x=arrays.arrays(
        np.float32,
        arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=24),
        elements=st.floats(-(2.0**100), 2.0**100, width=32) | st.floats(-8, 8, width=32),
    ),
    approximate=st.sampled_from(["none", "tanh"]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_agrees_with_torch(gelu, x, approximate):
    """Any shape and any finite value, within the contract's exact tolerance."""
    import torch

    wide = torch.from_numpy(x.astype(np.float64))
    expected = torch.nn.functional.gelu(wide, approximate=approximate).numpy()

    got = gelu(x, approximate=approximate).astype(np.float64)
    ulp = np.spacing(np.abs(expected).astype(np.float32))
    assert (np.abs(got - expected) <= np.maximum(2e-6, 4 * ulp)).all()
