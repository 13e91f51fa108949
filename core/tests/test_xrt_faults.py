"""Every fault of the stand-in, at every step: each request is answered rightly, and nothing is left over."""

import contextlib
import gc
import itertools
import logging
import random
import threading
import time
from dataclasses import replace

import npus
import numpy as np
import pytest
from assay import AssayError
from assay.devices.xrt import errors
from assay.testing.simxrt import Fault, Kind, Live, Step, Timing, every_fault

LATE = {Kind.HANG: 0.001, Kind.SLOW: 0.005}
FAULTS = [replace(fault, seconds=LATE.get(fault.kind)) for fault in every_fault()]
"""A run that never ends is never destroyed either, so here every hang ends at last."""

OPENING = frozenset({Step.OPEN, Step.REGISTER, Step.CONTEXT, Step.KERNEL, Step.ALLOCATE, Step.MAP})
BLOCKS = [npus.rows(count, seed=count) for count in (1, 4, 16, 21, 40)]


def name(fault):
    """For the list of tests."""
    return f"{fault.kind} at {fault.step}"


def ask(rt):
    """Requests of several sizes, each answered as the CPU would within the device's accuracy."""
    for x in BLOCKS:
        assert npus.close_to(rt.run("flip", x, factor=-1.5), x, -1.5)


def clean(sim):
    """Nothing that would have crashed, no race, and no handle left."""
    gc.collect()
    assert sim.crashes == []
    assert sim.races == []
    assert sim.live == Live()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    """What passes is tried again at once."""
    monkeypatch.setattr(errors, "RETRY_S", 0.0)


@pytest.fixture(params=["2.20", "2.25"])
def rig(request, tmp_path):
    """A machine with each release of XRT."""
    logging.getLogger("assay").setLevel(logging.CRITICAL)
    yield npus.Rig(tmp_path, xrt=request.param)
    logging.getLogger("assay").setLevel(logging.NOTSET)


@pytest.mark.parametrize("fault", [f for f in FAULTS if f.step in OPENING], ids=name)
def test_while_a_runtime_opens(rig, fault):
    """At each of the first times that the step is passed: the runtime opens and every request is right."""
    struck = 0
    times = ((0, "off"), (1, "off"), (2, "always"), (0, "always"), (5, "off"), (9, "off"))
    for after, mode in times if rig.sim.xrt == "2.25" else times[:2]:
        injected = rig.sim.inject(replace(fault, after=after))
        with rig.runtime(proof={"mode": mode, "timeout_s": 20}) as rt:
            ask(rt)
        struck += injected.hits
        rig.sim.clear_faults()
        rig.sim.return_device()
        clean(rig.sim)
    assert struck


@pytest.mark.parametrize("fault", [f for f in FAULTS if f.step not in OPENING], ids=name)
def test_while_requests_are_served(rig, fault):
    """At each of the first times: every request is right, whoever serves it, and the CPU never fails one."""
    struck = 0
    for after in (0, 1, 2, 3, 6) if rig.sim.xrt == "2.25" else (0, 3):
        with rig.runtime(fallback={"failures": 1, "cooldown_s": 60}) as rt:
            ask(rt)
            injected = rig.sim.inject(replace(fault, after=after))
            ask(rt)
            ask(rt)
            struck += injected.hits
            assert rt.explain("flip")["cpu"].counters.failures.total() == 0
        rig.sim.clear_faults()
        rig.sim.return_device()
        clean(rig.sim)
    assert struck or fault.step in (Step.WRITE, Step.READ)  # the driver copies through the map


@pytest.mark.parametrize("fault", [f for f in FAULTS if f.step is Step.RUN], ids=name)
def test_faults_that_stay(rig, fault):
    """The implementation goes into quarantine, or all that is on the device does; requests stay right."""
    events = []
    with rig.runtime(fallback={"failures": 3, "cooldown_s": 60}) as rt:
        rt.on("*", events.append)
        rig.sim.inject(replace(fault, count=None))
        for _ in range(4):
            ask(rt)
        serving = rt.op("flip").serving
        states = {c.implementation.name: c.state for c in rt.explain("flip").candidates}
    gone = [event["candidate"] for event in events if event["event"] == "kernel.quarantined"]
    lost = [event for event in events if event["event"] == "device.quarantined"]
    if fault.kind is Kind.SLOW:
        assert (serving, gone) == ("flip.xrt-batch", [])
    elif fault.kind is not Kind.STALE:  # the same request twice gives the same output, stale or not
        assert serving == "flip.cpu"
        assert {states["xrt-batch"], states["xrt-single"]} == {"quarantined"}
    late = {Kind.LOST, Kind.HANG, Kind.WATCHDOG, Kind.ABORT, Kind.NO_RESPONSE}
    assert bool(lost) >= (fault.kind in late)
    rig.sim.clear_faults()
    rig.sim.return_device()
    clean(rig.sim)


def test_a_device_comes_back(rig):
    """Unplugged, everything on it is quarantined at once; back again, it passes its probes and serves."""
    events = []
    with rig.runtime(fallback={"cooldown_s": 0.05}) as rt:
        rt.on("*", events.append)
        ask(rt)
        rig.sim.lose_device()
        ask(rt)
        assert rt.op("flip").serving == "flip.cpu"
        (lost,) = [event for event in events if event["event"] == "device.quarantined"]
        assert lost["device"] == "xrt:0"
        time.sleep(0.2)
        ask(rt)
        assert rt.op("flip").serving == "flip.cpu"
        rig.sim.return_device()
        until = time.monotonic() + 20
        while rt.op("flip").serving != "flip.xrt-batch":
            assert time.monotonic() < until
            time.sleep(0.01)
            ask(rt)
        before = rt.explain("flip")["xrt-batch"].counters.calls
        ask(rt)
        assert rt.explain("flip")["xrt-batch"].counters.calls > before
    clean(rig.sim)


def test_zeros_at_the_start(rig):
    """A kernel that completes with zeros never serves, and the message says zeros."""
    rig.sim.inject(Fault("run", "zeros", count=None))
    with rig.runtime(proof={"mode": "always"}) as rt:
        for kernel in ("xrt-batch", "xrt-single"):
            why = rt.explain("flip")[kernel].reasons[-1]
            assert (why.code, "zeros" in why.message) == ("inaccurate", True)
        assert rt.op("flip").serving == "flip.cpu"
        ask(rt)
    clean(rig.sim)


def test_zeros_at_run_time(rig):
    """Not one wrong answer is delivered, and the quarantine says zeros."""
    events = []
    with rig.runtime(fallback={"cooldown_s": 60}) as rt:
        rt.on("kernel.quarantined", events.append)
        ask(rt)
        rig.sim.inject(Fault("run", "zeros", count=None))
        for _ in range(10):
            ask(rt)
        assert rt.op("flip").serving == "flip.cpu"
    assert {event["candidate"] for event in events} == {"flip.xrt-batch", "flip.xrt-single"}
    assert all("zeros" in event["reason"] for event in events)
    clean(rig.sim)


def test_no_plan_left(rig):
    """Without a CPU implementation the caller gets one error with every attempt, and never a wrong number."""
    with rig.runtime(ops={"flip": {"prefer": ["xrt-batch"], "require": "xrt-*"}}) as rt:
        rig.sim.inject(Fault("run", "error", count=None))
        with pytest.raises(AssayError, match=r"xrt-batch.*(\n.*)*xrt-single"):
            rt.run("flip", BLOCKS[2])
    clean(rig.sim)


def test_many_threads_while_faults_come(rig):
    """Threads share the kernels while one run in twenty goes wrong; each gets its own request's answer."""
    wrong = []

    def work(seed):
        rng = np.random.default_rng(seed)
        for turn in range(25):
            x = npus.rows(int(rng.integers(1, 40)), seed=1000 * seed + turn)
            try:
                assert npus.close_to(rt.run("flip", x), x)
            except Exception as error:  # noqa: BLE001  # to be shown by the test
                wrong.append(error)

    kinds = ("zeros", "garbage", "slot", "unwritten", "constant", "error")
    for kind in kinds:
        rig.sim.inject(Fault("run", kind, count=None, probability=0.05 / len(kinds)))
    with rig.runtime(fallback={"failures": 10**6}) as rt:
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert rt.explain("flip")["xrt-batch"].counters.failures.total()
    assert wrong == []
    clean(rig.sim)


@pytest.mark.parametrize("kind", ["hang", "watchdog", "slow"])
def test_a_deadline_holds(tmp_path, kind):
    """Each plan that is asked may take the deadline; nobody waits for it more than 50 ms longer."""
    logging.getLogger("assay").setLevel(logging.CRITICAL)
    deadline = 0.25
    overtime = []
    for attempt in range(12):  # on a machine that others use, a thread may wake up late
        rig = npus.Rig(tmp_path / str(attempt), xrt="2.25", clock="spin", timing=Timing())
        rig.sim.inject(Fault("run", kind, seconds=1.0))
        with rig.runtime(fallback={"deadline_s": deadline, "failures": 1}) as rt:
            x = npus.rows(16)
            start = time.perf_counter()
            assert npus.close_to(rt.run("flip", x), x)
            taken = time.perf_counter() - start
            asked = sum(c.counters.failures.total() for c in rt.explain("flip").candidates)
            assert asked
            overtime.append(taken / asked - deadline)
            for _ in range(3):
                assert npus.close_to(rt.run("flip", x), x)
        rig.sim.clear_faults()
        assert rig.sim.crashes == []
        assert rig.sim.races == []
        if overtime[-1] <= 0.05:
            break
    logging.getLogger("assay").setLevel(logging.NOTSET)
    assert min(overtime) <= 0.05


def test_ten_thousand_faults_leave_nothing_behind(tmp_path):
    """All kinds at all steps in random order, on one kernel that is opened again after each loss."""
    rig = npus.Rig(tmp_path, xrt="2.25")
    npus.write_manifest(rig.batch.parent, sizes=(4,))
    rng = random.Random(1)
    kinds = [fault for fault in FAULTS if fault.step not in (Step.WRITE, Step.READ, Step.OPEN)]
    x, struck, right = BLOCKS[1], 0, 0
    first = None
    with rig.kernel(4) as kernel:
        for turn in itertools.count():
            injected = rig.sim.inject(replace(rng.choice(kinds), count=4, after=rng.randrange(3)))
            for _ in range(6):
                with contextlib.suppress(AssayError, RuntimeError, MemoryError, FloatingPointError):
                    right += npus.close_to(npus.run(kernel, x), x)
            struck += injected.hits
            rig.sim.clear_faults()
            rig.sim.return_device()
            if turn % 500 == 50:
                npus.run(kernel, x)
                gc.collect()
                first = first or rig.sim.live
                assert rig.sim.live == first
            if struck >= 10_000:
                break
    assert right > 10_000
    clean(rig.sim)
