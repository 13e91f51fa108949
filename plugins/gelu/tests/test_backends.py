"""What single implementations promise beyond the contract."""

from __future__ import annotations

import assay
import numpy as np
import pytest
from assay_gelu.backends import numpy as portable
from assay_gelu.reference import reference


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_portable_error(approximate):
    """The polynomials are within 8e-7 everywhere, on a grid far finer than their bends."""
    x = np.linspace(-20, 20, 400_001, dtype=np.float32)

    got = portable.gelu(x, approximate=approximate, out=np.empty_like(x))
    error = np.abs(got - reference(x, approximate=approximate))
    assert (error <= np.maximum(8e-7, np.spacing(np.abs(got)))).all(), error.max()


@pytest.mark.peers
@pytest.mark.parametrize("planned", [1, 2])
def test_torch_keeps_the_programs_threads(monkeypatch, planned):
    """A call runs on the plan's threads and leaves the program's own setting as it was."""
    import torch
    from assay_gelu.backends import torch as backend

    during = []
    compute = torch.nn.functional.gelu

    def spy(*args, **kwargs):
        during.append(torch.get_num_threads())
        return compute(*args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "gelu", spy)
    plan = assay.Plan(assay.Device("cpu", "cpu"), batch_size=1, threads=planned)
    kernel = backend.open_gelu(plan.device, plan)
    before = torch.get_num_threads()
    for own in (1, 2):
        torch.set_num_threads(own)
        try:
            kernel(np.ones(3, np.float32), approximate="none", out=np.empty(3, np.float32))
            assert own == torch.get_num_threads()
        finally:
            torch.set_num_threads(before)

    assert [planned, planned] == during
