"""Every row of the blame table, each with a fault that is really injected."""

import assay
import numpy as np
import pytest
from assay import State
from toys import (
    Hang,
    ItemKernel,
    Kernel,
    expect,
    heard,
    offer,
    operation,
    raising,
    returning,
    row,
    runtime,
)

BAD = {
    "raises": raising(RuntimeError("broken")),
    "leaves": raising(SystemExit(3)),
    "None": returning(lambda x: [1.0]),
    "wrong shape": returning(lambda x: np.zeros(len(x) + 1, x.dtype)),
    "wrong dtype": returning(lambda x: np.zeros(len(x), "int32")),
    "NaN": returning(lambda x: np.full(len(x), np.nan, x.dtype)),
    "one infinity": returning(lambda x: np.where(np.arange(len(x)) == len(x) - 1, np.inf, x).astype(x.dtype)),
}
"""Acts for which the kernel is to blame."""


def states(rt, op="scale"):
    return {c.implementation.name: c.state for c in rt.explain(op).candidates}


def failures(rt, name, op="scale"):
    return dict(rt.explain(op)[name].counters.failures)


@pytest.fixture(params=["hot", "general", "items"])
def pair(request):
    """A kernel that can be told to misbehave, a sound one behind it, and a way to call them."""
    first, second = (ItemKernel() if request.param == "items" else Kernel()), Kernel()
    form = {"form": "items", "writes_out": True} if request.param == "items" else {}
    # A standing check of every output keeps requests off the hot path.
    fallback = {"check": "always"} if request.param == "general" else {}
    with runtime(offer("first", first, 60, **form), offer("second", second, 20), fallback=fallback) as rt:
        assert np.array_equal(rt.run("scale", row()), expect(row()))
        yield first, second, rt


# The caller.


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (np.zeros((2, 2), "f"), "shape (2, 2)"),
        (np.zeros(3, "complex64"), "complex64"),
        ("text", "accepted"),
        (None, "missing"),
    ],
)
def test_a_wrong_argument_is_the_callers(pair, bad, says):
    """Rank, dtype and the like: InvalidInput, no second kernel, nobody is taken out."""
    first, second, rt = pair
    for _ in range(5):
        with pytest.raises(assay.InvalidInput, match=says.replace("(", r"\(").replace(")", r"\)")):
            rt.run("scale", bad)
    assert (first.calls, second.calls) == (1, 0)
    assert states(rt) == {"first": State.SERVING, "second": State.STANDBY}


def test_a_forbidden_nan_is_looked_for_beforehand():
    """Where the operation forbids NaN and the kernel does not look, no kernel sees one."""
    kernel = Kernel()
    with runtime(offer("plain", kernel), op=operation(finite=True)) as rt:
        for call in range(3):
            with pytest.raises(assay.InvalidInput, match="x holds 1 non-finite value"):
                rt.run("scale", row(1, np.nan, 2))
            assert kernel.calls == call
            rt.run("scale", row(1, 5, 2))
        assert failures(rt, "plain") == {}


@pytest.mark.parametrize("act", [raising(FloatingPointError("NaN")), None], ids=["notices", "overlooks"])
def test_a_forbidden_nan_that_the_kernel_meets_is_the_callers(act):
    """A kernel that looks itself, and even one that overlooks it, is not blamed for the caller's NaN."""
    first, second = Kernel(), Kernel()
    first.act = lambda x: None if act is None or np.isfinite(x).all() else act(x)
    with runtime(
        offer("first", first, 60, checks_finite=True), offer("second", second), op=operation(finite=True)
    ) as rt:
        rt.run("scale", row(1, 2, 3))
        for _ in range(4):
            with pytest.raises(assay.InvalidInput, match="the first is nan at 1"):
                rt.run("scale", row(1, np.nan, 2))
        assert second.calls == 0
        assert failures(rt, "first") == {}
        assert states(rt)["first"] is State.SERVING


def test_nan_in_may_give_nan_out(pair):
    """Where NaN is not forbidden, a result that it explains is returned and nobody is blamed."""
    _, second, rt = pair
    for _ in range(4):
        assert np.array_equal(rt.run("scale", row(1, np.nan, 2)), [2, np.nan, 4], equal_nan=True)
    assert second.calls == 0
    assert failures(rt, "first") == {}


def test_a_kernel_may_raise_for_nan(pair):
    """The contract lets a kernel raise for non-finite input: the next one serves, nobody is taken out."""
    first, second, rt = pair
    first.act = raising(ValueError("I do not like NaN"))
    for _ in range(5):
        assert np.array_equal(rt.run("scale", row(1, np.nan, 2)), [2, np.nan, 4], equal_nan=True)
    assert second.calls == 5
    assert states(rt)["first"] is State.SERVING


def test_a_number_that_does_not_fit_is_nobodys_fault():
    """A float64 that overflows in the kernel's float32 is served by a plan with the range for it."""
    narrow, wide = Kernel(), Kernel()
    with runtime(offer("narrow", narrow, 60), offer("wide", wide, 20, dtypes={"float64"})) as rt:
        big = np.array([1e300, 2.0])
        for _ in range(5):
            assert np.array_equal(rt.run("scale", big), expect(big))
        assert failures(rt, "narrow") == {"out_of_range": 5}
        assert states(rt)["narrow"] is State.SERVING


def test_a_refusal_by_a_kernel_is_not_final(pair):
    """A kernel that calls a sound request invalid does not have the last word."""
    first, _, rt = pair
    first.act = raising(assay.InvalidInput("I take no negative numbers"))
    assert np.array_equal(rt.run("scale", row()), expect(row()))
    assert failures(rt, "first") == {"refused": 1}


def test_a_refusal_by_everybody_is():
    """When every plan calls a request invalid, the caller hears it in those words."""
    a, b = Kernel(), Kernel()
    a.act = b.act = raising(assay.InvalidInput("nobody takes this"))
    with runtime(offer("a", a), offer("b", b)) as rt, pytest.raises(assay.InvalidInput, match="nobody takes"):
        rt.run("scale", row())


# The kernel.


@pytest.mark.parametrize("act", BAD.values(), ids=BAD.keys())
def test_a_kernels_fault_costs_no_answer(pair, act):
    """Exception, wrong result, non-finite output: the next plan serves, and the third failure is the last."""
    first, second, rt = pair
    first.act = act
    calls = first.calls
    for _ in range(6):
        assert np.array_equal(rt.run("scale", row(1, 2, 3)), [2, 4, 6])
    assert first.calls == calls + 3
    assert second.calls == 6
    assert sum(failures(rt, "first").values()) == 3
    assert states(rt) == {"first": State.QUARANTINED, "second": State.SERVING}


def test_the_next_plan_gets_the_callers_untouched_inputs(pair):
    """Replay is from the caller's own array, not from what the failed kernel has seen."""
    first, _, rt = pair
    seen = []

    def spoil(x):
        seen.append(x.copy())
        raise RuntimeError

    first.act = spoil
    x = row(1, 2, 3)
    x.flags.writeable = False
    assert np.array_equal(rt.run("scale", x), [2, 4, 6])
    assert np.array_equal(x, [1, 2, 3])
    assert np.array_equal(seen[0], [1, 2, 3])


def test_non_finite_values_in_a_large_result_are_found():
    """A result too large to look at on every call is sampled, and looked at entirely now and then."""
    first = Kernel()

    def half(x):
        result = x * np.float32(2)
        result[::2] = np.nan
        return result

    def one(x):
        result = x * np.float32(2)
        result[4567] = np.nan
        return result

    with runtime(offer("first", first, 60), offer("second", Kernel(), 20)) as rt:
        x = np.ones(1_000_000, "f")
        rt.run("scale", x)
        first.act = half
        assert np.isfinite(rt.run("scale", x)).all(), "half of them: a sample shows it at once"
        first.act = one
        for _ in range(2000):
            rt.run("scale", x)
            if failures(rt, "first") == {"non_finite": 2}:
                break
        else:
            pytest.fail("one bad element of a million was never found")


def test_the_check_can_be_on_for_every_call_and_off():
    """``check`` says whether outputs are searched."""
    for check, found in (("always", 1), ("never", 0)):
        kernel = Kernel()
        with runtime(offer("a", kernel, 60), offer("b", Kernel()), fallback={"check": check}) as rt:
            x = np.ones(100_000, "f")
            rt.run("scale", x)

            def one(x):
                result = x * np.float32(2)
                result[4567] = np.nan
                return result

            kernel.act = one
            rt.run("scale", x)
            assert sum(failures(rt, "a").values()) == found


# The deadline.


def test_a_deadline_gives_the_next_plans_answer():
    """A kernel that hangs costs its caller the deadline; its late result is discarded."""
    first, hang = Kernel(), Hang()
    with runtime(offer("first", first, 60), offer("second", Kernel()), fallback={"deadline_s": 0.05}) as rt:
        first.act = hang
        assert np.array_equal(rt.run("scale", row()), expect(row()))
        assert failures(rt, "first") == {"deadline": 1}
        assert rt.explain("scale")["first"].counters.calls == 0
        hang.release()


# The device.


class Driver:
    """A device of the kind "toy"."""

    kind = "toy"

    def find(self, settings):
        return assay.Device(kind="toy", name="Toy")

    def allocate(self, device, size, flag):
        pass

    def close(self, device):
        pass


def on_toy(name, kernel, priority=60, op="scale"):
    return offer(name, kernel, priority, op=op, opener=True, requires=assay.Requires(device="toy"))


def two_operations(*implementations):
    from toys import plugin

    class Other:
        @assay.hookimpl
        def assay_operations(self):
            return [operation(name="other")]

    return assay.Runtime(
        {"plugins": {"autoload": False}, "proof": {"mode": "off"}},
        plugins=[plugin(*implementations, drivers=[Driver()]), Other()],
    )


def test_a_lost_device_takes_everything_on_it():
    """DeviceLost from one kernel: all kernels on that device, of every operation, go at once."""
    kernels = {name: Kernel() for name in "abcde"}
    with (
        two_operations(
            on_toy("a", kernels["a"], 60),
            on_toy("b", kernels["b"], 50),
            offer("c", kernels["c"], 20),
            on_toy("d", kernels["d"], op="other"),
            offer("e", kernels["e"], op="other"),
        ) as rt,
        heard(rt) as events,
    ):
        rt.run("other", row())
        kernels["a"].act = raising(assay.DeviceLost("the context is gone"))
        assert np.array_equal(rt.run("scale", row()), expect(row()))
        assert states(rt) == {"a": State.QUARANTINED, "b": State.QUARANTINED, "c": State.SERVING}
        assert states(rt, "other") == {"d": State.QUARANTINED, "e": State.SERVING}
        lost = [event for event in events if event["event"] == "device.quarantined"]
        assert [event["device"] for event in lost] == ["toy:0"]


@pytest.mark.parametrize("how", ["raise", "hang"])
def test_a_device_on_which_every_kernel_fails_is_lost(how):
    """Without being told: when all kernels that were opened on a device fail or hang, it is the device."""
    a, b, c, hang = Kernel(), Kernel(), Kernel(), Hang()
    with runtime(
        on_toy("a", a, 60),
        on_toy("b", b, 50),
        offer("c", c),
        drivers=[Driver()],
        fallback={"deadline_s": 0.2, "failures": 100},
    ) as rt:
        a.act = hang if how == "hang" else raising(RuntimeError("no answer"))
        rt.run("scale", row())
        assert states(rt)["a"] is State.SERVING, "one kernel of two fails: that one is to blame"
        b.act = a.act
        rt.run("scale", row())
        assert states(rt) == {"a": State.QUARANTINED, "b": State.QUARANTINED, "c": State.SERVING}
        hang.release()


# The load.


def test_running_out_of_memory_once_takes_nobody_out():
    """Out of memory: the next plan serves; even at a limit of one failure nobody goes for one event."""
    first = Kernel()
    with runtime(offer("first", first, 60), offer("second", Kernel()), fallback={"failures": 1}) as rt:
        first.act = raising(MemoryError())
        assert np.array_equal(rt.run("scale", row()), expect(row()))
        assert failures(rt, "first") == {"out_of_memory": 1}
        assert states(rt)["first"] is State.SERVING
        rt.run("scale", row())
        assert states(rt)["first"] is State.QUARANTINED


# Nobody left.


def test_when_every_plan_fails_the_caller_gets_every_attempt():
    """OperationFailed lists all of them in order; the cause is what the last one raised."""
    a, b = Kernel(), Kernel()
    a.act, b.act = raising(RuntimeError("first")), raising(KeyError("second"))
    with runtime(offer("a", a, 60), offer("b", b)) as rt:
        with pytest.raises(assay.OperationFailed) as caught:
            rt.run("scale", row())
        assert caught.value.attempts == (
            ("scale.a", "raised RuntimeError: first"),
            ("scale.b", "raised KeyError: 'second'"),
        )
        assert isinstance(caught.value.__cause__, KeyError)


def test_the_last_plan_is_never_taken_out():
    """However often it fails."""
    kernel = Kernel()
    with runtime(offer("only", kernel)) as rt:
        kernel.act = raising(RuntimeError())
        for _ in range(10):
            with pytest.raises(assay.OperationFailed):
                rt.run("scale", row())
        kernel.act = None
        assert np.array_equal(rt.run("scale", row()), expect(row()))
        assert states(rt) == {"only": State.SERVING}


def test_a_request_that_nobody_can_serve_takes_nobody_out():
    """One poisonous request, sent again and again, costs its neighbours nothing."""
    a, b = Kernel(), Kernel()
    a.act = b.act = lambda x: raising(RuntimeError())(x) if len(x) == 2 else None
    with runtime(offer("a", a, 60), offer("b", b)) as rt:
        for _ in range(10):
            with pytest.raises(assay.OperationFailed):
                rt.run("scale", row(1, 2))
        assert states(rt) == {"a": State.SERVING, "b": State.STANDBY}


def test_an_interrupt_is_nobodys_failure(pair):
    """Ctrl-C in a kernel goes to the program and blames nobody."""
    first, second, rt = pair
    first.act = raising(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        rt.run("scale", row())
    assert second.calls == 0
    assert failures(rt, "first") == {}


# What the program hears.


def test_a_fall_to_an_approximate_plan_is_told_as_that():
    """``call.fell_back`` and ``kernel.quarantined`` say that approximate numbers are served now."""
    first = Kernel()
    with (
        runtime(
            offer("exact", first, 60),
            offer("rough", Kernel(), accuracy="approximate"),
            accuracy="approximate",
        ) as rt,
        heard(rt) as events,
    ):
        first.act = raising(RuntimeError())
        for _ in range(3):
            rt.run("scale", row())
        told = [(event["event"], event.get("accuracy")) for event in events]
        assert told.count(("call.fell_back", "approximate")) == 3
        assert told.count(("kernel.quarantined", "approximate")) == 1


def test_without_fallback_the_first_failure_is_the_callers_error():
    """``fallback.enabled = false``: no other plan serves, now or later."""
    first, second = Kernel(), Kernel()
    with runtime(offer("first", first, 60), offer("second", second), fallback={"enabled": False}) as rt:
        first.act = raising(RuntimeError("broken"))
        for _ in range(5):
            with pytest.raises(assay.OperationFailed) as caught:
                rt.run("scale", row())
            assert len(caught.value.attempts) == 1
        assert second.calls == 0
        assert states(rt)["first"] is State.SERVING
