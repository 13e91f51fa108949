"""GELU through PyTorch, on NumPy's memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import assay
import torch
from numpy.typing import NDArray


def open_gelu(device: assay.Device, plan: assay.Plan) -> Callable[..., NDArray[Any]]:
    """GELU on up to ``plan.threads`` threads.

    PyTorch keeps the number of threads per calling thread, with the last one set as the default of new ones.
    Where it differs from the plan's it is set for the length of a call and put back, so that the program's
    own use of PyTorch keeps its setting.
    """

    compute = torch.nn.functional.gelu

    def gelu(x: NDArray[Any], *, approximate: str, out: NDArray[Any]) -> NDArray[Any]:
        if not x.flags.writeable:
            x = x.copy()  # PyTorch has no read-only tensors and warns of them
        threads = torch.get_num_threads()
        if threads != plan.threads:
            torch.set_num_threads(plan.threads)
        try:
            compute(torch.from_numpy(x), approximate=approximate, out=torch.from_numpy(out))
        finally:
            if threads != plan.threads:
                torch.set_num_threads(threads)
        return out

    return gelu
