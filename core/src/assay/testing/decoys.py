"""Two implementations that any operation can have: one does nothing, one fails. Neither may ever serve."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import assay
from assay.contract.operation import Array


def null(*arrays: Array, out: Array, **params: Any) -> Array:
    """Do no work: the answer is zeros."""
    out.fill(0)
    return out


def fail(*arrays: Array, **params: Any) -> Array:
    """Raise, whatever is asked."""
    raise RuntimeError("this implementation always fails")


class Decoys:
    """A plugin with ``OP.null`` and ``OP.fail`` of high priority: ``Runtime(plugins=[Decoys("gelu")])``.

    A runtime that lets either serve has no gate.
    """

    def __init__(self, op: str) -> None:
        self.op = op

    @assay.hookimpl
    def assay_implementations(self) -> Iterator[assay.Implementation]:
        """The two."""
        writes = assay.Capabilities(writes_out=True)
        yield assay.Implementation(
            op=self.op, name="null", priority=99, kernel=f"{__name__}:null", capabilities=writes
        )
        yield assay.Implementation(op=self.op, name="fail", priority=99, kernel=f"{__name__}:fail")
