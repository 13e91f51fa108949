"""An installed plugin for the tests: the operation "double" and implementations that are right."""

import time
from pathlib import Path

import assay
import numpy as np


def double(x, *, times=2, out=None):
    """Every element of x, float32 of shape (n,), times a whole number."""


def infer(x, *, times):
    if x.ndim != 1:
        raise assay.InvalidInput(f"double: x has shape {x.shape}; expected (n,)")
    return assay.Spec(x.shape, x.dtype)


def reference(x, *, times):
    return x.astype(np.float64) * times


def probes(rng, domain):
    for times in domain.values("times", (2, 3)):
        for n in (8, 0, 1, 17):
            x = rng.standard_normal(n).astype(np.float32)
            yield assay.Probe(f"{n} elements", (x,), {"times": times})


class Elements:
    """Each element is an item."""

    shapes, result_shape = ((),), ()

    def __init__(self, x, out):
        self.x, self.out, self.count = x, np.empty_like(x) if out is None else out, len(x)

    def load(self, start, stop, blocks):
        blocks[0][:] = self.x[start:stop]

    def store(self, start, stop, block):
        self.out[start:stop] = block

    def result(self):
        return self.out


def split(inputs, params, *, item_shape, out):
    return Elements(inputs[0], out)


def read(path):
    return (np.asarray([float(word) for word in Path(path).read_text().split()], np.float32),)


def plot(result, path, *, title):
    if "unlucky" in title:
        Path(path).write_text("half a picture")
        raise assay.AssayError("the pencil broke")
    Path(path).write_text(f"{title}: {result.tolist()}")


def plain(x, *, times):
    return x * np.float32(times)


def items(x, *, times, out):
    return np.multiply(x, np.float32(times), out=out)


def slow(x, *, times):
    time.sleep(0.005)
    return plain(x, times=times)


@assay.hookimpl
def assay_operations():
    yield assay.Operation(
        name="double",
        version="1",
        signature=double,
        inputs=(assay.Input("x", frozenset({"float32"})),),
        infer=infer,
        reference=reference,
        probes=probes,
        tolerance=lambda kind, inputs, params, expected, accuracy: assay.Tolerance(1e-5),
        standard=lambda rng: assay.Probe(
            "standard", (rng.standard_normal(64).astype(np.float32),), {"times": 2}
        ),
        presets={"latency": 1, "balanced": 4, "throughput": 16, "single": 1},
        items=assay.ItemForm(split=split, reference=reference),
        reader="assay_toy:read",
        plot="assay_toy:plot",
    )


@assay.hookimpl
def assay_implementations():
    def offer(name, **given):
        return assay.Implementation(op="double", name=name, kernel=f"assay_toy:{name}", **given)

    lacking = assay.Capabilities(requires=assay.Requires(packages=("no-such-package>=2",)))
    blocks = assay.Capabilities(form="items", batch_sizes=assay.BatchSizes(1, 4, 16), writes_out=True)
    yield offer("plain")
    yield offer("items", priority=10, capabilities=blocks)
    yield offer("slow", priority=5)
    yield offer("lacking", priority=60, capabilities=lacking)
