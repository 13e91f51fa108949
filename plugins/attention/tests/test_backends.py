"""What single implementations promise beyond the contract."""

from __future__ import annotations

import assay
import numpy as np
import pytest
from assay_attention import ATTENTION

PARAMS = {**ATTENTION.defaults, "mask": None}


def test_onnxruntime_builds_few_sessions(monkeypatch):
    """One per signature whatever the shapes, the least recently used one let go beyond sixteen."""
    from assay_attention.backends import onnxruntime as backend

    built = []
    build = backend._session

    def spy(*key):
        built.append(key)
        return build(*key)

    monkeypatch.setattr(backend, "_session", spy)
    plan = assay.Plan(assay.Device("cpu", "cpu"), batch_size=1)
    attention = backend.open_attention(plan.device, plan)
    for length in (1, 5, 9):
        x = np.ones((2, length, 8), np.float32)
        attention(x, x, x, **PARAMS)
    assert len(built) == 1

    for scale in range(2, 18):
        attention(x, x, x, **{**PARAMS, "scale": float(scale)})
    assert len(built) == 17
    attention(x, x, x, **{**PARAMS, "scale": 17.0})
    assert len(built) == 17
    attention(x, x, x, **PARAMS)
    assert len(built) == 18


@pytest.mark.peers
@pytest.mark.parametrize("planned", [1, 2])
def test_torch_keeps_the_programs_threads(monkeypatch, planned):
    """A call runs on the plan's threads and leaves the program's own setting as it was."""
    import torch
    from assay_attention.backends import torch as backend

    during = []
    compute = torch.nn.functional.scaled_dot_product_attention

    def spy(*args, **kwargs):
        during.append(torch.get_num_threads())
        return compute(*args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    plan = assay.Plan(assay.Device("cpu", "cpu"), batch_size=1, threads=planned)
    kernel = backend.open_attention(plan.device, plan)
    x = np.ones((2, 3, 8), np.float32)
    before = torch.get_num_threads()
    for own in (1, 2):
        torch.set_num_threads(own)
        try:
            kernel(x, x, x, **PARAMS)
            assert own == torch.get_num_threads()
        finally:
            torch.set_num_threads(before)

    assert [planned, planned] == during
