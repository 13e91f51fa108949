"""Routing: which plan takes a signature, and that the short way of a call gives what the long way gives."""

import gc
import threading
import weakref

import assay
import numpy as np
import pytest
from assay.scheduler.finite import TINY, all_finite, quick_look, spread_finite
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from toys import ItemKernel, Kernel, expect, offer, raising, row, runtime


@pytest.fixture
def served():
    """A runtime with a kernel for factor 2 or 3 of float32, and one for everything behind it."""
    first, second = Kernel(), Kernel()
    capabilities = {"params": {"factor": {2, 3}}}
    with runtime(
        offer("first", first, 60, **capabilities), offer("second", second, dtypes={"float32", "int16"})
    ) as rt:
        yield first, second, rt.op("scale")


def test_each_signature_goes_to_the_first_that_takes_it(served):
    """By dtype, by parameters, again and again, in any order."""
    first, second, op = served
    for _ in range(3):
        for factor, dtype, kernel in (
            (2, "float32", first),
            (5, "float32", second),
            (3, "float32", first),
            (2, "int16", second),
        ):
            calls = kernel.calls
            x = row(1, 2, 3, dtype=dtype)
            result = op(x, factor=factor)
            assert kernel.calls == calls + 1
            assert result.dtype == x.dtype
            assert np.array_equal(result, expect(x, factor))


def test_serving_is_who_serves_the_callable():
    """Where an implementation is required it is named, not the one that ranks first; None in quarantine."""
    second = Kernel()
    with runtime(offer("first", Kernel(), 60), offer("second", second), fallback={"failures": 1}) as rt:
        required = rt.op("scale", require="sec*")
        assert (rt.op("scale").serving, required.serving) == ("scale.first", "scale.second")
        second.act = raising(RuntimeError())
        with pytest.raises(assay.OperationFailed):
            required(row())
        assert (rt.op("scale").serving, required.serving) == ("scale.first", None)
        assert repr(required) == "<assay operation scale: nothing serves>"


def test_a_parameter_is_told_by_its_type_too(served):
    """1 and True are equal and still not the same parameter: a route found for one is not the other's."""
    _, _, op = served
    seen = []

    def infer(x, *, factor):
        seen.append(type(factor))
        return assay.Spec(x.shape, x.dtype)

    object.__setattr__(op.operation, "infer", infer)
    for factor in (1, True, 1, 1.0, True):
        op(row(), factor=factor)
    assert set(seen) == {int, bool, float}


class Odd(np.ndarray):
    """An array that is more than an array."""


@pytest.mark.parametrize(
    "x",
    [
        np.arange(8, dtype="f")[::2],
        np.arange(8, dtype="f")[::-1],
        np.frombuffer(b"\0" + np.arange(4, dtype="f").tobytes(), np.uint8)[1:].view("f"),
        np.arange(4, dtype=">f4"),
        np.arange(4, dtype="f").view(Odd),
        [1.0, 2.0, 3.0],
        (1.5, 2.5),
        np.arange(4, dtype="float64"),
    ],
    ids=["strided", "reversed", "misaligned", "swapped", "subclass", "list", "tuple", "float64"],
)
def test_any_layout_reaches_the_kernel_as_the_contract_says(served, x):
    """Contiguous, aligned, in native byte order; also after the shape went the short way before."""
    first, _, op = served
    got = []
    first.act = lambda given: got.append(given)
    op(np.arange(len(x), dtype="f"))
    assert np.array_equal(op(x), expect(np.asarray(x)))
    kernel_saw = got[-1]
    assert kernel_saw.flags.c_contiguous
    assert kernel_saw.flags.aligned
    assert kernel_saw.dtype == np.dtype("f")
    assert kernel_saw.dtype.isnative


def test_a_read_only_array_is_taken(served):
    """It is an input."""
    _, _, op = served
    x = row(1, 2)
    x.flags.writeable = False
    for _ in range(2):
        assert np.array_equal(op(x), [2, 4])


def test_out(served):
    """The result is written where the caller wants it, and only there; what does not fit is refused."""
    _, _, op = served
    for _ in range(2):
        out = np.zeros(3, "f")
        assert op(row(1, 2, 3), out=out) is out
        assert np.array_equal(out, [2, 4, 6])
        wide = np.zeros(6, "f")
        assert np.array_equal(op(row(1, 2, 3), out=wide[::2]), [2, 4, 6])
        assert np.array_equal(wide, [2, 0, 4, 0, 6, 0])
    for bad in (np.zeros(4, "f"), np.zeros(3, "d"), [0, 0, 0]):
        with pytest.raises(assay.InvalidInput, match="out is"):
            op(row(1, 2, 3), out=bad)
    frozen = np.zeros(3, "f")
    frozen.flags.writeable = False
    with pytest.raises(assay.InvalidInput, match="read-only"):
        op(row(1, 2, 3), out=frozen)


def test_out_that_overlaps_the_input(served):
    """In place is allowed: the kernel then gets scratch, and a failure leaves the input as it was."""
    first, _, op = served
    x = row(1, 2, 3)
    assert op(x, out=x) is x
    assert np.array_equal(x, [2, 4, 6])
    first.act = raising(RuntimeError())
    assert np.array_equal(op(x, out=x), [4, 8, 12])


def test_the_input_by_name(served):
    """``op(x=...)`` is ``op(...)``."""
    _, _, op = served
    for _ in range(2):
        assert np.array_equal(op(x=row(1, 2)), [2, 4])


def test_an_array_where_a_parameter_belongs(served):
    """It is neither confused with a remembered parameter nor an error of numpy's."""
    _, _, op = served
    op(row(), factor=2)
    with pytest.raises(Exception):  # noqa: B017  # whichever plan says what it makes of it
        op(row(), factor=np.array([2, 3]))


def test_many_signatures_are_forgotten_and_found_again(served):
    """What is remembered is bounded."""
    _, _, op = served
    for n in range(1, 3000):
        op(np.ones(n % 1500 + 1, "f"))
    assert len(op.memory.routes) <= 1024
    assert len(op.memory.hot) <= 1024


def test_a_served_request_is_not_kept_alive():
    """No array of a request outlives it, however it was served."""
    kernel = Kernel()
    fallback = {"failures": 1000}
    with runtime(
        offer("items", ItemKernel(), 70, form="items", writes_out=True),
        offer("a", kernel, 60),
        offer("b", Kernel()),
        fallback=fallback,
    ) as rt:

        def call(how):
            x = np.ones(5, "f")
            reference = weakref.ref(x)
            how(x)
            return reference

        kernel.act = raising(RuntimeError())
        ways = [
            rt.op("scale"),
            rt.op("scale", require="b"),
            rt.op("scale", deadline_s=5),
            lambda x: rt.submit("scale", x).result(),
            lambda x: list(rt.map("scale", [x])),
        ]
        for way in ways:
            reference = call(way)
            for _ in range(100):
                if reference() is None:
                    break
                gc.collect()
                threading.Event().wait(0.01)
            assert reference() is None, way


def test_masked_arrays_are_refused(served):
    """What their mask hides would take part."""
    with pytest.raises(assay.InvalidInput, match="x is a masked array; fill it first"):
        served[2](np.ma.masked_array([1.0, 2.0], [0, 1]))


def test_counters_lose_nothing_under_threads(served):
    """Eight threads on the short way, each call counted."""
    _, _, op = served
    x = row()
    op(x)

    def work():
        for _ in range(3000):
            op(x)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counters = op._dispatcher.roster.servers[0].candidate.counters
    assert counters.calls == 8 * 3000 + 1
    assert counters.work == pytest.approx(counters.calls * len(x) / 1000)


def test_no_implementation_says_why():
    """Every candidate with its reason, and the decision as data."""
    with runtime(offer("two", Kernel(), params={"factor": {2}})) as rt:
        with pytest.raises(assay.NoImplementation, match=r"takes factor in \{2\}, not 5") as caught:
            rt.run("scale", row(), factor=5)
        assert caught.value.decision.op == "scale"


FLOATS = hnp.arrays(
    st.sampled_from(["float16", "float32", "float64", "complex64"]),
    hnp.array_shapes(min_dims=0, max_dims=3, max_side=40),
    elements={"allow_nan": True, "allow_infinity": True},
)


@given(FLOATS)
def test_all_finite_agrees_with_numpy(x):
    """On any shape and dtype; the quick look never calls a bad array good, and knows small ones exactly."""
    truth = bool(np.isfinite(x).all())
    assert all_finite(x) == truth
    assert all_finite(x.T) == truth
    look = quick_look(x.shape, x.dtype)
    assert look is None or truth or not look(x)
    assert x.size > TINY or x.dtype.kind == "c" or look is None or look(x) == truth
    assert truth is False or spread_finite(x, 3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [3, 17, 5000, 600_000])
def test_huge_finite_numbers_are_finite(dtype, size):
    """Sums that overflow are no proof, and warn nobody."""
    x = np.full(size, np.finfo(dtype).max, dtype)
    assert all_finite(x)
    x[-1] = np.nan
    assert not all_finite(x)


def test_optional_arrays_and_several_inputs():
    """An operation of two arrays and an optional third is served with and without it."""

    def signature(a, b, *, mask=None, scale=1.0, out=None):
        raise NotImplementedError

    def infer(a, b, *, mask, scale):
        return assay.Spec(a.shape, a.dtype)

    def reference(a, b, *, mask, scale):
        return (np.asarray(a, float) + b) * scale + (0 if mask is None else mask)

    op = assay.Operation(
        name="add",
        version="1",
        signature=signature,
        inputs=(
            assay.Input("a", frozenset({"float32"}), finite=True),
            assay.Input("b", frozenset({"float32"})),
            assay.Input("mask", frozenset({"float32"}), optional=True),
        ),
        infer=infer,
        reference=reference,
        probes=lambda rng, domain: iter(()),
        tolerance=lambda *args: assay.Tolerance(1e-5),
        standard=lambda rng: assay.Probe("s", (row(), row(), None), {"scale": 1.0}),
    )

    def kernel(a, b, *, mask, scale):
        return ((a + b) * np.float32(scale) + (0 if mask is None else mask)).astype("f")

    with runtime(offer("k", kernel, op="add"), op=op) as rt:
        add = rt.op("add")
        for _ in range(2):
            assert np.array_equal(add(row(1, 2), row(3, 4)), [4, 6])
            assert np.array_equal(add(row(1, 2), row(3, 4), mask=row(1, 0)), [5, 6])
            assert np.array_equal(add(row(1, 2), b=row(3, 4), scale=2.0), [8, 12])
            assert np.array_equal(add(row(1, 2), row(3, 4), mask=None), [4, 6])
            assert np.array_equal(add(row(1, 2), row(3, 4), mask=row(-np.inf, 0)), [-np.inf, 6])
            with pytest.raises(assay.InvalidInput, match="a holds 1 non-finite"):
                add(row(1, np.inf), row(3, 4))
