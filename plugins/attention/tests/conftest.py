"""Every implementation, called as a program calls it: through a runtime that serves nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import assay
import pytest
from assay_attention import ATTENTION

NAMES = ["reference", "numpy", "onnxruntime", pytest.param("torch", marks=pytest.mark.peers)]


@pytest.fixture(scope="session", params=NAMES)
def attention(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The operation bound to one implementation, unproven: the tests are the proof here."""
    config = {"ops": {"attention": {"require": request.param}}, "proof": {"mode": "off"}, "threads": 1}
    with assay.Runtime(config, ops=["attention"]) as runtime:
        yield runtime.op(ATTENTION)


@pytest.fixture
def offer() -> Any:
    """Offers one kernel for attention, lets it prove itself, and gives the runtime."""
    opened = []

    def offer(kernel: Any, **capabilities: Any) -> assay.Runtime:
        implementation = assay.Implementation(
            op="attention",
            name="offered",
            kernel=kernel,
            capabilities=assay.Capabilities(**capabilities),
        )
        plugin = SimpleNamespace(
            assay_operations=assay.hookimpl(lambda: [ATTENTION]),
            assay_implementations=assay.hookimpl(lambda: [implementation]),
        )
        runtime = assay.Runtime({"plugins": {"autoload": False}}, plugins=[plugin], ops=["attention"])
        opened.append(runtime)
        return runtime

    yield offer
    for runtime in opened:
        runtime.close()
