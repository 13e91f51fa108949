"""Deadlines: callers go on in time, hung calls are counted and bounded, late results are discarded."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import assay
import numpy as np
import pytest
from assay import State
from toys import Hang, ItemKernel, Kernel, expect, offer, raising, row, runtime, wait_for

LATE_S = 0.05
"""How much later than its deadline a caller may go on."""


def pair(first, **fallback):
    return runtime(
        offer("first", first, 60), offer("second", Kernel()), fallback={"failures": 100, **fallback}
    )


def test_the_caller_goes_on_in_time():
    """The deadline, and the next plan's own time."""
    first, hang = Kernel(), Hang()
    with pair(first, deadline_s=0.1) as rt:
        rt.run("scale", row())
        first.act = hang
        took = []
        for _ in range(3):
            start = time.perf_counter()
            assert np.array_equal(rt.run("scale", row()), expect(row()))
            took.append(time.perf_counter() - start)
        hang.release()
        assert all(seconds >= 0.1 for seconds in took)
        assert min(took) < 0.1 + LATE_S


def test_a_deadline_of_one_bound_operation():
    """``rt.op(name, deadline_s=...)`` has its own deadline; others have none."""
    first, hang = Kernel(), Hang()
    with pair(first) as rt:
        quick = rt.op("scale", deadline_s=0.05)
        first.act = hang
        assert np.array_equal(quick(row()), expect(row()))
        threading.Timer(0.1, hang.release).start()
        assert np.array_equal(rt.run("scale", row()), expect(row()))
        assert dict(rt.explain("scale")["first"].counters.failures) == {"deadline": 1}


def test_a_late_result_is_discarded():
    """What a hung kernel gives in the end reaches nobody, and no memory of its caller is written."""
    first, hang = Kernel(), Hang()
    with pair(first, deadline_s=0.05) as rt:
        out = np.zeros(3, "f")

        def late(x):
            hang(x)
            return np.full_like(x, 77)

        first.act = late
        assert rt.run("scale", row(1, 2, 3), out=out) is out
        hang.release()
        wait_for(lambda: not rt.health()["ops"]["scale"]["hung"])
        assert np.array_equal(out, [2, 4, 6])
        counters = rt.explain("scale")
        assert counters["first"].counters.calls == 0
        assert counters["second"].counters.calls == 1


def test_a_hung_kernel_sees_private_arrays():
    """The caller may write to its array again while a kernel still hangs on what it got."""
    first, hang, seen = Kernel(), Hang(), []

    def late(x):
        hang(x)
        seen.append(x.copy())

    with pair(first, deadline_s=0.05) as rt:
        first.act = late
        x = row(1, 2, 3)
        rt.run("scale", x)
        x[:] = 0
        hang.release()
        wait_for(lambda: seen)
        assert np.array_equal(seen[0], [1, 2, 3])


def test_hung_calls_are_counted_and_bounded():
    """Past the bound the implementation is refused at once, rather than threads piled up."""
    first, hang = Kernel(), Hang()
    with pair(first, deadline_s=0.03, hung_threads=2) as rt:
        first.act = hang
        for _ in range(2):
            rt.run("scale", row())
        threads = threading.active_count()
        assert rt.health()["ops"]["scale"]["hung"] == {"scale.first": 2}
        start = time.perf_counter()
        for _ in range(10):
            assert np.array_equal(rt.run("scale", row()), expect(row()))
        assert time.perf_counter() - start < 10 * 0.03
        assert threading.active_count() == threads
        hang.release()
        wait_for(lambda: not rt.health()["ops"]["scale"]["hung"])
        first.act = None
        assert np.array_equal(rt.run("scale", row()), expect(row()))
        assert rt.explain("scale")["first"].counters.calls == 1


def test_when_nobody_answers_in_time():
    """DeadlineExceeded, which is a TimeoutError, with every attempt."""
    a, b, hang = Kernel(), Kernel(), Hang()
    with runtime(offer("a", a, 60), offer("b", b), fallback={"deadline_s": 0.03}) as rt:
        a.act = b.act = hang
        with pytest.raises(
            TimeoutError, match=r"(?s)scale\.a: did not answer within 0\.03 s.*scale\.b"
        ) as caught:
            rt.run("scale", row())
        assert isinstance(caught.value, assay.DeadlineExceeded)
        hang.release()


def test_threads_are_kept_between_calls():
    """The hop to another thread does not start one for each call."""
    with pair(Kernel(), deadline_s=5) as rt:
        rt.run("scale", row())
        threads = threading.active_count()
        for _ in range(50):
            rt.run("scale", row())
        assert threading.active_count() == threads


def test_what_a_kernel_raises_comes_through():
    """With a deadline too, exceptions and even SystemExit count as the kernel's failure."""
    first = Kernel()
    with pair(first, deadline_s=5) as rt:
        for error, kind in (
            (RuntimeError("x"), "raised"),
            (SystemExit(1), "raised"),
            (MemoryError(), "out_of_memory"),
        ):
            first.act = raising(error)
            assert np.array_equal(rt.run("scale", row()), expect(row()))
            assert rt.explain("scale")["first"].counters.failures[kind] >= 1


def test_a_hung_owner_does_not_hang_the_others():
    """An opened kernel has one owner at a time: with a deadline, those who wait for it go on in time too."""
    first, hang = Kernel(), Hang()
    with runtime(
        offer("first", first, 60, opener=True),
        offer("second", Kernel()),
        fallback={"deadline_s": 0.1, "failures": 100},
    ) as rt:
        first.act = hang

        def call(n):
            start = time.perf_counter()
            assert np.array_equal(rt.run("scale", row(n)), expect(row(n)))
            return time.perf_counter() - start

        with ThreadPoolExecutor(4) as pool:
            took = list(pool.map(call, range(4)))
        assert first.calls == 1, "one owner; the others never got in"
        assert sorted(took)[1] < 0.1 + LATE_S
        hang.release()


def test_who_waits_for_a_hung_owner_is_served_elsewhere_once_it_is_given_up():
    """Without a deadline of its own, a caller at the door goes on when the kernel is opened anew."""
    kernels, hang = [], Hang()

    def open_kernel(device, plan):
        kernels.append(Kernel())
        return kernels[-1]

    with runtime(
        assay.Implementation(op="scale", name="first", priority=60, opener=open_kernel),
        offer("second", Kernel()),
        fallback={"failures": 1, "cooldown_s": 0.05},
    ) as rt:
        kernels[0].act = hang
        with ThreadPoolExecutor(2) as pool:
            impatient = pool.submit(rt.op("scale", deadline_s=0.1), row(1))
            assert hang.entered.wait(5)
            patient = pool.submit(rt.op("scale"), row(2))
            assert np.array_equal(impatient.result(5), [2])
            assert np.array_equal(patient.result(5), [4])
        wait_for(lambda: rt.explain("scale")["first"].state is State.SERVING)
        assert len(kernels) == 2
        assert kernels[0].closed == 0, "somebody is still in it"
        hang.release()


def test_items_have_deadlines_too():
    """A hung block: all who shared it are served by the next plan."""
    first, hang = ItemKernel(), Hang()
    with runtime(
        offer("first", first, 60, form="items", writes_out=True),
        offer("second", Kernel()),
        fallback={"deadline_s": 0.1, "failures": 100},
    ) as rt:
        first.act = hang
        inputs = [row(n, n + 1) for n in range(6)]
        futures = [rt.submit("scale", x) for x in inputs]
        for x, future in zip(inputs, futures, strict=True):
            assert np.array_equal(future.result(5), expect(x))
        hang.release()


def test_kernels_that_let_go_of_the_gil_run_side_by_side():
    """No lock is held while a kernel runs: eight threads in kernels of 100 ms are done in little more."""

    def sleep(x):
        time.sleep(0.1)

    kernel = Kernel()
    with runtime(offer("a", kernel)) as rt:
        op = rt.op("scale")
        op(row())
        kernel.act = sleep
        took = []
        for _ in range(3):
            with ThreadPoolExecutor(8) as pool:
                start = time.perf_counter()
                list(pool.map(op, [row()] * 8))
                took.append(time.perf_counter() - start)
        assert min(took) < 0.4  # one after the other they take 0.8 s
