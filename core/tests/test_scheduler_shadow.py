"""Shadow checks, sanity checks, proofs at an interval, and captured inputs that can be run again."""

import dataclasses
import time

import assay
import numpy as np
import pytest
from assay import State
from assay.scheduler import capture
from toys import (
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
    wait_for,
)

ALL = {"shadow_rate": 1.0, "cooldown_s": 60}


def state(rt, name):
    return rt.explain("scale")[name].state


def wrong(x):
    return x * np.float32(2.1)


@pytest.mark.parametrize("form", ["whole", "items", "submit"])
def test_a_kernel_that_goes_wrong_is_found(form):
    """A mismatch with another implementation takes it out, and the log names the input."""
    first, second = (Kernel() if form == "whole" else ItemKernel()), Kernel()
    terms = {} if form == "whole" else {"form": "items", "writes_out": True}
    with (
        runtime(offer("first", first, 60, **terms), offer("second", second), fallback=ALL) as rt,
        heard(rt) as events,
    ):
        call = rt.op("scale") if form != "submit" else lambda x: rt.submit("scale", x).result(10)
        call(row())
        wait_for(lambda: second.calls)
        assert state(rt, "first") is State.SERVING
        first.act = wrong
        for _ in range(200):
            call(row(1, 2, 3))
            if state(rt, "first") is State.QUARANTINED:
                break
            time.sleep(0.005)
        assert state(rt, "first") is State.QUARANTINED
        event = next(event for event in events if event.get("kind") == "mismatch")
        assert event["input"] == capture.digest((row(1, 2, 3),), {"factor": 2})
        assert rt.explain("scale")["first"].counters.failures["mismatch"] >= 1
        assert np.array_equal(call(row(1, 2)), [2, 4])


def test_the_reference_decides_who_is_wrong():
    """When two implementations differ, it is not simply the one that served who goes."""
    first, second = Kernel(), Kernel()
    with runtime(
        offer("first", first, 60), offer("second", second, 40), offer("third", Kernel()), fallback=ALL
    ) as rt:
        second.act = wrong
        rt.run("scale", row())
        wait_for(lambda: state(rt, "second") is State.QUARANTINED)
        assert state(rt, "first") is State.SERVING


def test_a_lone_implementation_is_held_against_the_reference():
    """With nobody to compare with, it is compared with the definition; the last one is not taken out."""
    only = Kernel()
    with runtime(offer("only", only), fallback=ALL) as rt, heard(rt) as events:
        only.act = wrong
        rt.run("scale", row())
        wait_for(lambda: [event for event in events if event.get("kind") == "mismatch"])
        assert state(rt, "only") is State.SERVING


def test_two_approximations_may_differ_by_both_their_errors():
    """A difference that the tolerances of both explain is none."""
    first, second = Kernel(), Kernel()
    with runtime(
        offer("first", first, 60, accuracy="approximate"),
        offer("second", second, accuracy="approximate"),
        accuracy="approximate",
        fallback=ALL,
    ) as rt:
        first.act = returning(lambda x: x * np.float32(2) + np.float32(0.09))
        second.act = returning(lambda x: x * np.float32(2) - np.float32(0.09))
        rt.run("scale", row(0, 0.1))
        wait_for(lambda: second.calls)
        time.sleep(0.05)
        assert state(rt, "first") is State.SERVING
        assert state(rt, "second") is State.STANDBY


def test_the_share_of_calls():
    """At a rate of a tenth, about every tenth call is compared; at 0 none is."""
    for rate, most in ((0.1, 20), (0.0, 0)):
        second = Kernel()
        with runtime(
            offer("first", Kernel(), 60), offer("second", second), fallback={"shadow_rate": rate}
        ) as rt:
            for _ in range(200):
                rt.run("scale", np.ones(50_000, "f"))
            time.sleep(0.05)
            assert second.calls <= most
            assert bool(second.calls) == bool(rate)


def test_the_share_of_time():
    """A check that is a hundred times as slow as serving is made a hundred times as seldom."""
    second = Kernel()
    second.act = lambda x: time.sleep(0.05)
    with runtime(offer("first", Kernel(), 60), offer("second", second), fallback=ALL) as rt:
        start = time.perf_counter()
        for _ in range(2000):
            rt.run("scale", row())
        assert time.perf_counter() - start < 1.0, "it is off the caller's path"
        assert second.calls <= 2


def test_zeros_for_something_are_looked_into():
    """With ``check = "always"`` a constant output for a varied input is compared, whatever the rate."""
    first = Kernel()
    with runtime(
        offer("first", first, 60), offer("second", Kernel()), fallback={"check": "always", "cooldown_s": 60}
    ) as rt:
        rt.run("scale", row())
        first.act = returning(np.zeros_like)
        rt.run("scale", row())
        wait_for(lambda: state(rt, "first") is State.QUARANTINED)


def test_the_serving_are_proved_again_at_an_interval():
    """A kernel that went wrong after it was proved is found though nobody compares its results."""
    first = Kernel()
    with runtime(
        offer("first", first, 60),
        offer("second", Kernel()),
        proof={"mode": "cached", "interval_s": 0.2},
        fallback={"cooldown_s": 60},
        select="priority",
    ) as rt:
        assert rt.op("scale").serving == "scale.first"
        first.act = returning(lambda x: x * x.dtype.type(2.1))
        wait_for(lambda: state(rt, "first") is State.QUARANTINED, 20)
        assert "proved again" in str(rt.explain("scale"))
        assert np.array_equal(rt.run("scale", row()), expect(row()))


# Captured inputs.


def kept(folder):
    return sorted(folder.glob("*.npz"))


def test_a_failing_input_is_kept_and_runs_again(tmp_path):
    """The file holds the request; replay holds every implementation against the reference."""
    first = Kernel()
    with runtime(
        offer("first", first, 60),
        offer("second", Kernel()),
        offer("narrow", Kernel(), 10, params={"factor": {3}}),
        fallback={"capture": str(tmp_path / "kept"), "failures": 100},
    ) as rt:
        first.act = raising(RuntimeError("poison"))
        x = row(1, np.nan, 3)
        rt.run("scale", x, factor=5)
        wait_for(lambda: kept(tmp_path / "kept"))
        (path,) = kept(tmp_path / "kept")
        captured = capture.load(path)
        assert (captured.op, captured.failed, captured.params) == ("scale", "scale.first", {"factor": 5})
        assert "poison" in captured.what
        assert np.array_equal(captured.inputs[0], x, equal_nan=True)
        assert captured.inputs[0].dtype == x.dtype
        outcomes = {outcome.id: outcome for outcome in rt.replay(path)}
        assert "raised RuntimeError: poison" in outcomes["scale.first"].wrong
        assert outcomes["scale.second"].wrong == ""
        assert outcomes["scale.second"].max_abs == 0
        assert "does not take it" in outcomes["scale.narrow"].wrong
        first.act = wrong
        assert "expected" in rt.replay(path)[0].wrong


def test_the_folder_is_bounded(tmp_path):
    """The newest stay; the same input is kept once."""
    first = Kernel()
    with runtime(
        offer("first", first, 60),
        offer("second", Kernel()),
        fallback={"capture": str(tmp_path), "capture_limit": 3, "failures": 1000},
    ) as rt:
        first.act = raising(RuntimeError())
        for n in (1, 1, 1, 2, 3, 4, 5):
            rt.run("scale", row(n))
            wait_for(lambda: rt._dispatchers["scale"].captures._waiting == 0)
        assert sorted(float(capture.load(path).inputs[0][0]) for path in kept(tmp_path)) == [3, 4, 5]
        assert [path for path in tmp_path.iterdir() if path.suffix != ".npz"] == []


def test_nothing_is_kept_unless_asked(tmp_path, monkeypatch):
    """Requests may be private: capturing is off by default."""
    monkeypatch.chdir(tmp_path)
    first = Kernel()
    with runtime(offer("first", first, 60), offer("second", Kernel())) as rt:
        first.act = raising(RuntimeError())
        rt.run("scale", row())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["missing", "text", "other", "cut"])
def test_what_is_no_captured_input_says_so(tmp_path, damage):
    """One sentence, with the file's name."""
    path = tmp_path / "input.npz"
    if damage == "text":
        path.write_text("not an archive")
    elif damage == "other":
        np.savez(path, a=np.zeros(3))
    elif damage == "cut":
        whole = capture.save(tmp_path, 5, operation(), "scale.x", (row(),), {"factor": 2}, "why")
        path.write_bytes(whole.read_bytes()[:200])
    with runtime(offer("only", Kernel())) as rt, pytest.raises(assay.AssayError, match=r"input\.npz"):
        rt.replay(path)


def test_an_input_of_another_version_is_refused(tmp_path):
    """What was right then may not be now."""
    old = dataclasses.replace(operation(), version="0")
    path = capture.save(tmp_path, 5, old, "scale.x", (row(),), {"factor": 2}, "why")
    with runtime(offer("only", Kernel())) as rt, pytest.raises(assay.AssayError, match="version 0"):
        rt.replay(path)


def test_the_digest_names_the_request():
    """The same arrays and parameters have the same digest, anything else another."""
    x = row(1, 2)
    name = capture.digest((x, None), {"factor": 2})
    assert name == capture.digest((x.copy(), None), {"factor": 2})
    others = [
        ((row(1, 3), None), 2),
        ((x, None), 3),
        ((x.astype("d"), None), 2),
        ((x.reshape(1, 2), None), 2),
    ]
    assert name not in {capture.digest(inputs, {"factor": factor}) for inputs, factor in others}
