"""Every implementation, called as a program calls it: through a runtime that serves nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import assay
import pytest
from assay_gelu import GELU

NAMES = ["reference", "numpy", "scipy", "onnxruntime", pytest.param("torch", marks=pytest.mark.peers)]


@pytest.fixture(scope="session", params=NAMES)
def gelu(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The operation bound to one implementation, unproven: the tests are the proof here."""
    config = {"ops": {"gelu": {"require": request.param}}, "proof": {"mode": "off"}, "threads": 1}
    with assay.Runtime(config, ops=["gelu"]) as runtime:
        yield runtime.op(GELU)


@pytest.fixture
def offer() -> Any:
    """Offers one kernel for gelu, lets it prove itself, and gives the runtime."""
    opened = []

    def offer(kernel: Any, **capabilities: Any) -> assay.Runtime:
        implementation = assay.Implementation(
            op="gelu",
            name="offered",
            kernel=kernel,
            capabilities=assay.Capabilities(**capabilities),
        )
        plugin = SimpleNamespace(
            assay_operations=assay.hookimpl(lambda: [GELU]),
            assay_implementations=assay.hookimpl(lambda: [implementation]),
        )
        runtime = assay.Runtime({"plugins": {"autoload": False}}, plugins=[plugin], ops=["gelu"])
        opened.append(runtime)
        return runtime

    yield offer
    for runtime in opened:
        runtime.close()
