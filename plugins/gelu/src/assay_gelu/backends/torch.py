"""GELU through PyTorch, on NumPy's memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import assay
import torch
from numpy.typing import NDArray


def open_gelu(device: assay.Device, plan: assay.Plan) -> Callable[..., NDArray[Any]]:
    """GELU on up to ``plan.threads`` threads.

    PyTorch's number of threads belongs to the process, so it is set for the length of a call and put back:
    the program's own use of PyTorch keeps its setting. Calls come one at a time, so that two never undo
    each other's.
    """

    def gelu(x: NDArray[Any], *, approximate: str, out: NDArray[Any]) -> NDArray[Any]:
        if not x.flags.writeable:
            x = x.copy()  # PyTorch has no read-only tensors and warns of them
        threads = torch.get_num_threads()
        torch.set_num_threads(plan.threads)
        try:
            torch.nn.functional.gelu(torch.from_numpy(x), approximate=approximate, out=torch.from_numpy(out))
        finally:
            torch.set_num_threads(threads)
        return out

    return gelu
