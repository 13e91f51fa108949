"""A tiny operation and kernels that misbehave on command, as live plugins for tests.

``scale(x, *, factor=2)`` multiplies a row of numbers; its items are the numbers. The oracle of every test is
``expect``, float64 arithmetic that shares nothing with the kernels.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import assay
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def scale(x: Array, *, factor: float = 2, out: Array | None = None) -> Array:
    """The signature."""
    raise NotImplementedError


def expect(x: Array, factor: float = 2) -> NDArray[np.float64]:
    """The right answer, in float64."""
    return np.asarray(x, np.float64) * factor


def row(*values: float, dtype: str = "float32") -> Array:
    """A small input."""
    return np.array(values or (1.0, -2.0, 3.5), dtype)


def _infer(x: Array, *, factor: float) -> assay.Spec:
    if x.ndim != 1:
        raise assay.InvalidInput(f"scale: x has shape {x.shape}, expected (n,)")
    return assay.Spec(x.shape, x.dtype)


def _probes(rng: np.random.Generator, domain: assay.Domain) -> Iterator[assay.Probe]:
    for dtype in domain.dtypes:
        for factor in domain.values("factor", (2, 3)):
            for size in (8, 1, 5, 33):
                x = rng.standard_normal(size).astype(dtype)
                yield assay.Probe(f"{size} numbers", (x,), {"factor": factor})


def _tolerance(kind: str, inputs: Any, params: Any, expected: Array, accuracy: Any) -> assay.Tolerance:
    loose = 0.1 if accuracy is assay.Accuracy.APPROXIMATE else 1e-5
    return assay.Tolerance(loose * np.maximum(1.0, np.abs(expected)))


class Numbers:
    """The numbers of one request as items."""

    def __init__(self, x: Array, out: Array | None) -> None:
        self._x, self._y = x, np.empty_like(x) if out is None else out
        self.count, self.shapes, self.result_shape = len(x), ((),), ()

    def load(self, start: int, stop: int, blocks: Sequence[Array]) -> None:
        blocks[0][:] = self._x[start:stop]

    def store(self, start: int, stop: int, block: Array) -> None:
        self._y[start:stop] = block

    def result(self) -> Array:
        return self._y


def _split(inputs: Any, params: Any, *, item_shape: Any, out: Array | None) -> Numbers:
    return Numbers(inputs[0], out)


def operation(*, finite: bool = False, name: str = "scale") -> assay.Operation[Any, Any]:
    """The operation; with ``finite`` it forbids NaN and infinities."""
    return assay.Operation(
        name=name,
        version="1",
        signature=scale,
        inputs=(assay.Input("x", frozenset({"float32", "float64", "int16"}), finite=finite),),
        infer=_infer,
        reference=expect_keyword,
        probes=_probes,
        tolerance=_tolerance,
        standard=lambda rng: assay.Probe("standard", (rng.standard_normal(64).astype("f"),), {"factor": 2}),
        presets={"latency": 4, "balanced": 16, "throughput": 256, "single": 1},
        items=assay.ItemForm(split=_split, reference=expect_keyword),
        converts={"float64": ("float32",)},
        work=lambda inputs, params: inputs[0].size / 1000,
        work_unit="audio seconds",
    )


def expect_keyword(x: Array, *, factor: float) -> NDArray[np.float64]:
    """``expect`` as operations call their references."""
    return expect(x, factor)


class Kernel:
    """A whole kernel that is right until ``act`` is set: it is called in the kernel's place.

    ``act(x)`` returns the result, raises, or returns None to go on as usual.
    """

    def __init__(self) -> None:
        self.act: Callable[[Array], Any] | None = None
        self.calls = 0
        self.closed = 0

    def __call__(self, x: Array, *, factor: float) -> Any:
        self.calls += 1
        if self.act is not None and (answer := self.act(x)) is not None:
            return answer
        return x * x.dtype.type(factor)

    def close(self) -> None:
        self.closed += 1


class ItemKernel(Kernel):
    """The same as an item kernel, which notes the blocks that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks: list[Array] = []

    def __call__(self, x: Array, *, factor: float, out: Array) -> Any:
        self.blocks.append(x.copy())
        answer = super().__call__(x, factor=factor)
        if getattr(answer, "shape", None) != out.shape or answer.dtype != out.dtype:
            return answer
        out[:] = answer
        return out


def raising(error: BaseException) -> Callable[[Array], Any]:
    """An act: raise."""

    def act(x: Array) -> Any:
        raise error

    return act


def returning(make: Callable[[Array], Any]) -> Callable[[Array], Any]:
    """An act: return what ``make(x)`` gives."""
    return make


class Hang:
    """An act: hang until ``release`` is called."""

    def __init__(self) -> None:
        self._released = threading.Event()
        self.entered = threading.Event()

    def __call__(self, x: Array) -> None:
        self.entered.set()
        self._released.wait(30)

    def release(self) -> None:
        self._released.set()


def offer(name: str, kernel: Any, priority: int = 20, *, op: str = "scale", **capabilities: Any) -> Any:
    """An implementation of the operation. What ``opener=True`` gives is opened, by one thread at a time."""
    opener = capabilities.pop("opener", False)
    code = {"opener": lambda device, plan: kernel} if opener else {"kernel": kernel}
    return assay.Implementation(
        op=op, name=name, priority=priority, capabilities=assay.Capabilities(**capabilities), **code
    )


def plugin(*implementations: Any, op: Any = None, drivers: Sequence[Any] = ()) -> Any:
    """A live plugin with the operation and these implementations."""
    defined = operation() if op is None else op

    class Toy:
        __name__ = ""

        @assay.hookimpl
        def assay_operations(self) -> Any:
            return [defined]

        @assay.hookimpl
        def assay_implementations(self) -> Any:
            return implementations

        @assay.hookimpl
        def assay_devices(self) -> Any:
            return drivers

    toy = Toy()
    toy.__name__ = f"toy-{defined.name}"  # two plugins of one name would be taken for one
    return toy


def runtime(
    *implementations: Any, op: Any = None, drivers: Sequence[Any] = (), **config: Any
) -> assay.Runtime:
    """A runtime with these implementations only. No proofs, unless ``proof`` is given: they take time."""
    settings = {"plugins": {"autoload": False}, "proof": {"mode": "off"}, **config}
    return assay.Runtime(settings, plugins=[plugin(*implementations, op=op, drivers=drivers)])


def wait_for(condition: Callable[[], Any], timeout_s: float = 10.0) -> None:
    """Wait until something that happens in the background has happened."""
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.002)


@contextmanager
def heard(rt: assay.Runtime) -> Iterator[list[dict[str, Any]]]:
    """The events of a runtime, as its callbacks hear them."""
    events: list[dict[str, Any]] = []
    rt.on("*", events.append)
    yield events
