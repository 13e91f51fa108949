"""Breaks a right kernel on purpose, when a test says so."""

from __future__ import annotations

import functools
import os
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from assay.contract.operation import Array

Kernel = Callable[..., Array]


class Faulty:
    """A kernel that does what another one does, until a fault is switched on.

    ``kernel.fault = "nan"`` switches one on, also while the kernel serves, and None off again.

    Args:
        kernel: A whole or an item kernel.
        fault: One of ``FAULTS``; None: it is right for now.
        after: Calls that go well before the fault sets in.
        seconds: How long "hangs" and "slow" take.
    """

    def __init__(
        self, kernel: Kernel, fault: str | None = None, *, after: int = 0, seconds: float = 3600.0
    ) -> None:
        if fault is not None and fault not in FAULTS:
            raise ValueError(f"no fault {fault!r}; known: {', '.join(FAULTS)}")
        functools.update_wrapper(self, kernel)  # so that it is seen to take out= or not
        self.kernel = kernel
        self.fault = fault
        self.after = after
        self.seconds = seconds
        self.calls = 0
        self.last: Array | None = None

    def __call__(self, *arrays: Array, **keywords: Any) -> Array:
        self.calls += 1
        if self.fault is None or self.calls <= self.after:
            self.last = np.array(result := self.kernel(*arrays, **keywords))
            return result
        return FAULTS[self.fault](self, arrays, keywords)

    def wrong(self, arrays: tuple[Array, ...], keywords: Mapping[str, Any]) -> Array:
        """The right result, to be spoiled: in ``out`` where there is one."""
        result = self.kernel(*arrays, **keywords)
        return result if result.flags.writeable else result.copy()


def _raises(faulty: Faulty, arrays: Any, keywords: Any) -> Array:
    raise RuntimeError("broken on purpose")


def _hangs(faulty: Faulty, arrays: Any, keywords: Any) -> Array:
    time.sleep(faulty.seconds)
    return faulty.kernel(*arrays, **keywords)


def _nan(faulty: Faulty, arrays: Any, keywords: Any) -> Array:
    result = faulty.wrong(arrays, keywords)
    result[...] = np.nan
    return result


def _zeros(faulty: Faulty, arrays: Any, keywords: Any) -> Array:
    result = faulty.wrong(arrays, keywords)
    result[...] = 0
    return result


def _stale(faulty: Faulty, arrays: Any, keywords: Any) -> Array:
    """The result of the last call of this shape that went well."""
    result = faulty.wrong(arrays, keywords)
    if faulty.last is None or faulty.last.shape != result.shape:
        faulty.last = result.copy()
    result[...] = faulty.last
    return result


def _skips_a_slot(faulty: Faulty, arrays: Any, keywords: Any) -> Array:
    """The last slot, row or element is left as zeros."""
    result = faulty.wrong(arrays, keywords)
    result[-1:] = 0
    return result


def _wrong_shape(faulty: Faulty, arrays: Any, keywords: Any) -> Array:
    return faulty.kernel(*arrays, **keywords)[..., None]


def _segfault(faulty: Faulty, arrays: Any, keywords: Any) -> Array:
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError("unreachable")


def _exits(faulty: Faulty, arrays: Any, keywords: Any) -> Array:
    raise SystemExit(3)


FAULTS: Mapping[str, Callable[[Faulty, Any, Any], Array]] = {
    "raises": _raises,
    "hangs": _hangs,
    "slow": _hangs,
    "nan": _nan,
    "zeros": _zeros,
    "stale": _stale,
    "skips_a_slot": _skips_a_slot,
    "wrong_shape": _wrong_shape,
    "segfault": _segfault,
    "exits": _exits,
}
"""What can be broken, by name. "segfault" ends the process: only for kernels proved in the worker."""
