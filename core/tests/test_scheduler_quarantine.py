"""Quarantine: limits, growing waits, re-admission through the probes, and who is never taken out."""

import threading
import time

import assay
import numpy as np
import pytest
from assay import State
from toys import Hang, Kernel, expect, heard, offer, raising, returning, row, runtime, wait_for

SOON = {"failures": 1, "cooldown_s": 0.05}


def state(rt, name):
    return rt.explain("scale")[name].state


def test_it_passes_its_probes_before_it_serves_again():
    """Re-admission is by the whole proof, in the background; then it has its place again."""
    first = Kernel()
    with (
        runtime(offer("first", first, 60), offer("second", Kernel()), fallback=SOON) as rt,
        heard(rt) as events,
    ):
        op = rt.op("scale")
        first.act = raising(RuntimeError())
        op(row())
        assert state(rt, "first") is State.QUARANTINED
        assert op.serving == "scale.second"
        first.act, calls = None, first.calls
        wait_for(lambda: state(rt, "first") is State.SERVING)
        assert first.calls > calls + 10, "a whole proof, not one probe"
        assert op.serving == "scale.first"
        calls = first.calls
        assert np.array_equal(op(row()), expect(row()))
        assert first.calls == calls + 1
        assert [e["event"] for e in events if e["event"] == "kernel.readmitted"] == ["kernel.readmitted"]


def test_live_traffic_never_probes_it():
    """While it waits, no request reaches it."""
    first = Kernel()
    with runtime(
        offer("first", first, 60), offer("second", Kernel()), fallback={"failures": 1, "cooldown_s": 60}
    ) as rt:
        first.act = raising(RuntimeError())
        rt.run("scale", row())
        calls = first.calls
        for n in range(20):
            rt.run("scale", row(*range(1, n + 2)))
            rt.submit("scale", row()).result()
        assert first.calls == calls


def test_waits_grow_while_it_fails_its_probes():
    """Each failed probe doubles the wait."""
    first = Kernel()
    with (
        runtime(offer("first", first, 60), offer("second", Kernel()), fallback=SOON) as rt,
        heard(rt) as events,
    ):
        rt.run("scale", row())
        first.act = returning(lambda x: x * 0)
        rt.run("scale", row())  # zeros are finite and of the right shape: nobody notices here
        first.act = raising(RuntimeError())
        rt.run("scale", row())
        first.act = returning(lambda x: x * 0)  # but the probes do
        wait_for(lambda: len(waits(events)) >= 3)
        assert waits(events)[:3] == pytest.approx([0.05, 0.1, 0.2])
        assert rt.explain("scale")["first"].counters.quarantines >= 3
        assert "probes failed again" in str(rt.explain("scale"))


def waits(events):
    return [event["seconds"] for event in events if event["event"] == "kernel.quarantined"]


def test_a_probe_that_hangs_does_not_let_it_in():
    """The probes have a deadline of their own, and a probe that hangs is not joined by another."""
    first, hang = Kernel(), Hang()
    with (
        runtime(
            offer("first", first, 60),
            offer("second", Kernel()),
            fallback=SOON,
            proof={"mode": "off", "timeout_s": 0.1},
        ) as rt,
        heard(rt) as events,
    ):
        first.act = raising(RuntimeError())
        rt.run("scale", row())
        first.act = hang
        before = threading.active_count()
        wait_for(lambda: len(waits(events)) >= 4)
        assert threading.active_count() <= before + 2, "the background thread and one hung probe"
        assert state(rt, "first") is State.QUARANTINED
        first.act = None
        hang.release()
        wait_for(lambda: state(rt, "first") is State.SERVING)


def test_an_opened_kernel_is_opened_anew():
    """What a failed kernel holds may be what is wrong with it: it is closed, and opened for its probes."""
    opened = []

    def open_kernel(device, plan):
        opened.append(Kernel())
        return opened[-1]

    implementation = assay.Implementation(op="scale", name="first", priority=60, opener=open_kernel)
    with runtime(implementation, offer("second", Kernel()), fallback=SOON) as rt:
        rt.run("scale", row())
        opened[-1].act = raising(RuntimeError())
        rt.run("scale", row())
        wait_for(lambda: state(rt, "first") is State.SERVING)
        assert len(opened) == 2
        assert [kernel.closed for kernel in opened] == [1, 0]
        rt.run("scale", row())
    assert [kernel.closed for kernel in opened] == [1, 1]


def test_failures_long_ago_are_forgotten():
    """Failures count towards quarantine while they come within the first waiting time of each other."""
    first = Kernel()
    with runtime(
        offer("first", first, 60), offer("second", Kernel()), fallback={"failures": 2, "cooldown_s": 0.05}
    ) as rt:
        for _ in range(3):
            first.act = raising(RuntimeError())
            rt.run("scale", row())
            first.act = None
            time.sleep(0.06)
        assert state(rt, "first") is State.SERVING


def test_the_last_for_a_signature_serves_even_from_quarantine():
    """Where nobody else takes a request, the quarantined one is asked rather than nobody; nothing is lost."""
    wide, narrow = Kernel(), Kernel()
    with runtime(
        offer("wide", wide, 60),
        offer("narrow", narrow, params={"factor": {2}}),
        fallback={"failures": 1, "cooldown_s": 60},
    ) as rt:
        wide.act = raising(RuntimeError())
        rt.run("scale", row(), factor=2)
        assert state(rt, "wide") is State.QUARANTINED
        wide.act = None
        assert np.array_equal(rt.run("scale", row(), factor=3), expect(row(), 3))
        calls = wide.calls
        rt.run("scale", row(), factor=2)
        assert wide.calls == calls


def test_a_required_implementation_in_quarantine_fails_closed():
    """``require`` means this one, proved, or an error that says it is in quarantine."""
    first = Kernel()
    with runtime(
        offer("first", first, 60), offer("second", Kernel()), fallback={"failures": 1, "cooldown_s": 60}
    ) as rt:
        op = rt.op("scale", require="first")
        first.act = raising(RuntimeError())
        with pytest.raises(assay.OperationFailed):
            op(row())
        with pytest.raises(assay.NoImplementation, match=r"scale\.first: it is in quarantine"):
            op(row())


def test_no_route_found_before_outlives_a_quarantine():
    """A signature whose route was being found while its first plan went away is routed anew."""
    first = Kernel()
    with runtime(
        offer("first", first, 60), offer("second", Kernel()), fallback={"failures": 1, "cooldown_s": 60}
    ) as rt:
        op = rt.op("scale")
        rt.run("scale", row(1))
        roster = rt._dispatchers["scale"].roster
        find = type(roster).route
        x = row(1, 2)

        def overtaken(self, *args):
            route = find(self, *args)
            first.act = raising(RuntimeError())
            op(row(1))  # first goes into quarantine before this route is remembered
            first.act = None
            return route

        type(roster).route = overtaken
        try:
            op(x)
        finally:
            type(roster).route = find
        calls = first.calls
        op(x)
        assert first.calls == calls


def test_quarantine_is_visible_everywhere():
    """health, metrics, explain and the summary say who, why and for how long."""
    first = Kernel()
    with runtime(
        offer("first", first, 60), offer("second", Kernel()), fallback={"failures": 1, "cooldown_s": 60}
    ) as rt:
        assert rt.health()["status"] == "ok"
        first.act = raising(RuntimeError("sick"))
        rt.run("scale", row())
        health = rt.health()
        assert health["status"] == "degraded"
        assert health["ops"]["scale"]["serving"] == "scale.second"
        told = health["ops"]["scale"]["quarantined"]["scale.first"]
        assert "sick" in told["reason"]
        assert 59 < told["probed_in_s"] <= 60
        assert rt.metrics()["ops"]["scale"]["implementations"]["scale.first"]["quarantines"] == 1
        assert "probed again after 60 s" in str(rt.explain("scale"))
        assert "in quarantine" in rt.summary()


def test_repeated_events_are_told_at_a_limited_rate(caplog):
    """The log gets one line of a kind at a time and a count of those left out; callbacks get every event."""
    first = Kernel()
    with (
        runtime(offer("first", first, 60), offer("second", Kernel()), fallback={"failures": 1000}) as rt,
        heard(rt) as events,
    ):
        first.act = raising(RuntimeError())
        with caplog.at_level("WARNING", logger="assay"):
            for _ in range(50):
                rt.run("scale", row())
            assert caplog.text.count("event=kernel.failed") == 1
            assert len([e for e in events if e["event"] == "kernel.failed"]) == 50
            rt._events._last = {key: (at - 60, n) for key, (at, n) in rt._events._last.items()}
            rt.run("scale", row())
        assert "left_out=49" in caplog.text


def test_a_callback_that_raises_loses_no_request(caplog):
    """What an embedder's callback does wrong is logged."""
    first = Kernel()
    with runtime(offer("first", first, 60), offer("second", Kernel())) as rt:
        rt.on("kernel.failed", lambda event: 1 / 0)
        first.act = raising(RuntimeError())
        assert np.array_equal(rt.run("scale", row()), expect(row()))
        assert "callback.failed" in caplog.text
