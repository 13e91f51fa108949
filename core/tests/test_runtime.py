"""The runtime as a whole: reload under traffic, fork, close, and what it reports."""

import json
import os
import threading
import time
from concurrent.futures import CancelledError

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
    plugin,
    raising,
    row,
    runtime,
    wait_for,
)

CLOSED = "this runtime is closed"


def settings(**config):
    return {"plugins": {"autoload": False}, "proof": {"mode": "off"}, **config}


# Reload.


def test_reload_swaps_the_decision_and_bound_operations_stay_valid():
    """The same callable is served by another implementation from then on."""
    a, b = Kernel(), Kernel()
    with runtime(offer("a", a, 60), offer("b", b)) as rt:
        op, required = rt.op("scale"), rt.op("scale", require="a")
        op(row())
        rt.reload(settings(ops={"scale": {"prefer": ["b"]}}))
        assert op.serving == "scale.b"
        calls = b.calls
        assert np.array_equal(op(row()), expect(row()))
        assert b.calls == calls + 1
        assert np.array_equal(required(row()), expect(row()))
        assert rt.config.ops["scale"].prefer == ("b",)
        rt.reload(settings(ops={"scale": {"deny": ["a"]}}))
        with pytest.raises(assay.NoImplementation, match="denied"):
            required(row())
        assert op.serving == "scale.b"


def test_reload_under_traffic_loses_nothing():
    """Threads call, submit and have deadlines while the decision changes again and again."""
    kernels = {name: Kernel() for name in "ab"}
    item, opened = ItemKernel(), []

    def open_kernel(device, plan):
        opened.append(Kernel())
        return opened[-1]

    implementations = [
        offer("a", kernels["a"], 60),
        offer("b", kernels["b"], 50),
        offer("items", item, 40, form="items", writes_out=True),
        assay.Implementation(op="scale", name="opened", priority=30, opener=open_kernel),
    ]
    with runtime(*implementations) as rt:
        stop, wrong, served = threading.Event(), [], [0] * 6
        ways = [rt.op("scale"), lambda x: rt.submit("scale", x).result(10), rt.op("scale", deadline_s=5)]

        def work(n):
            while not stop.is_set():
                x = row(n, served[n], 3)
                try:
                    if not np.array_equal(ways[n % 3](x), expect(x)):
                        wrong.append(x)
                except Exception as error:  # noqa: BLE001  # whatever it is, it is wrong
                    wrong.append(error)
                served[n] += 1

        threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for turn in range(30):
            prefer = ["items", "opened", "b", "a"][turn % 4]
            deny = [["a"], ["opened"], []][turn % 3] if prefer not in ("a", "opened") else []
            rt.reload(settings(ops={"scale": {"prefer": [prefer], "deny": deny, "batch_size": turn % 5 + 1}}))
            time.sleep(0.01)
        stop.set()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert min(served) > 3
        counted = sum(c.counters.calls for c in rt.explain("scale").candidates)
        assert counted == sum(served), "counters outlive a reload, and nothing was served twice"
    assert all(kernel.closed == 1 for kernel in opened), "each that was opened was closed once"


def test_a_reload_that_cannot_be_changes_nothing():
    """An unknown name: ConfigError, and everything goes on as before."""
    a = Kernel()
    with runtime(offer("a", a, 60), offer("b", Kernel())) as rt:
        with pytest.raises(assay.ConfigError, match="nobody offers"):
            rt.reload(settings(ops={"scale": {"prefer": ["c"]}}))
        with pytest.raises(assay.ConfigError):
            rt.reload(settings(presett="latency"))
        assert rt.op("scale").serving == "scale.a"
        assert rt.config.ops == {}


def test_quarantine_survives_a_reload():
    """Who was out stays out, until its probes are passed."""
    first = Kernel()
    fallback = {"failures": 1, "cooldown_s": 0.5}
    with runtime(offer("first", first, 60), offer("second", Kernel()), fallback=fallback) as rt:
        op = rt.op("scale")
        first.act = raising(RuntimeError())
        op(row())
        rt.reload(settings(fallback=fallback))
        assert rt.explain("scale")["first"].state is State.QUARANTINED
        assert op.serving == "scale.second"
        assert rt.explain("scale")["first"].counters.failures["raised"] == 1
        first.act = None
        wait_for(lambda: rt.explain("scale")["first"].state is State.SERVING)
        assert op.serving == "scale.first"


def test_a_kernel_that_stays_is_not_opened_twice():
    """A device may not stand that: what is the same after a reload stays open; what is not is closed."""
    opened = []

    def open_kernel(device, plan):
        opened.append((Kernel(), plan.threads))
        return opened[-1][0]

    implementation = assay.Implementation(op="scale", name="opened", priority=60, opener=open_kernel)
    with runtime(implementation, offer("b", Kernel()), threads=1) as rt:
        rt.run("scale", row())
        rt.reload(settings(threads=1, ops={"scale": {"prefer": ["b"]}}))
        rt.reload(settings(threads=1))
        rt.run("scale", row())
        assert len(opened) == 1
        rt.reload(settings(threads=2))
        rt.run("scale", row())
        assert [threads for _, threads in opened] == [1, 2]
        assert [kernel.closed for kernel, _ in opened] == [1, 0]


def test_a_policy_of_a_reload_holds_for_bound_operations():
    """A deadline that is configured later holds for callables that were bound before."""
    first, hang = Kernel(), Hang()
    with runtime(offer("first", first, 60), offer("second", Kernel())) as rt:
        op = rt.op("scale")
        op(row())
        rt.reload(settings(fallback={"deadline_s": 0.05}))
        first.act = hang
        assert np.array_equal(op(row()), expect(row()))
        hang.release()


def test_an_operation_that_a_reload_no_longer_offers():
    """Its callables say so; the others go on."""

    class Other:
        @assay.hookimpl
        def assay_operations(self):
            return [operation(name="other")] if here else []

        @assay.hookimpl
        def assay_implementations(self):
            return [offer("k", Kernel(), op="other")] if here else []

    here = True
    with assay.Runtime(settings(), plugins=[plugin(offer("a", Kernel())), Other()]) as rt:
        gone = rt.op("other")
        gone(row())
        here = False
        rt.reload(settings())
        with pytest.raises(assay.UnknownOperation):
            gone(row())
        with pytest.raises(assay.UnknownOperation):
            rt.op("other")
        assert np.array_equal(rt.run("scale", row()), expect(row()))


# Close.


def test_close_may_be_called_twice_and_ends_everything():
    """Idempotent; afterwards every way in says that the runtime is closed; no thread is left."""
    before = threading.active_count()
    kernel, item = Kernel(), ItemKernel()
    rt = runtime(offer("a", kernel, 60, opener=True), offer("items", item, form="items", writes_out=True))
    op = rt.op("scale")
    op(row())
    rt.op("scale", deadline_s=5)(row())
    rt.submit("scale", row()).result(10)
    rt.op("scale", require="items").submit(row()).result(10)
    rt.close()
    rt.close()
    assert kernel.closed == 1
    ways = [
        lambda: op(row()),
        lambda: op.submit(row()),
        lambda: rt.run("scale", row()),
        lambda: rt.submit("scale", row()),
        lambda: rt.map("scale", [row()]),
        lambda: rt.op("scale"),
        lambda: rt.reload(settings()),
    ]
    for way in ways:
        with pytest.raises(assay.AssayError, match=CLOSED):
            way()
    wait_for(lambda: threading.active_count() <= before)


def test_close_finishes_what_runs_and_cancels_what_waits():
    """No future is left undone."""
    item, hang = ItemKernel(), Hang()
    rt = runtime(offer("items", item, form="items", writes_out=True))
    item.act = lambda x: hang(x) if x[0] == -99 else None
    running = rt.submit("scale", row(-99))
    assert hang.entered.wait(5)
    waiting = [rt.submit("scale", row(n)) for n in range(5)]
    threading.Timer(0.1, hang.release).start()
    rt.close()
    assert np.array_equal(running.result(0), [-198])
    for future in waiting:
        with pytest.raises(CancelledError):
            future.result(0)


def test_close_lets_calls_end_before_it_closes_their_kernel():
    """A kernel that was opened is never closed under the feet of a call."""
    kernel, hang = Kernel(), Hang()
    rt = runtime(offer("a", kernel, opener=True, thread_safe=True))
    op = rt.op("scale")
    op(row())
    closed_while_inside = []

    def slow(x):
        hang(x)
        closed_while_inside.append(kernel.closed)

    kernel.act = slow
    results = []
    caller = threading.Thread(target=lambda: results.append(op(row(1))))
    caller.start()
    assert hang.entered.wait(5)
    threading.Timer(0.1, hang.release).start()
    rt.close()
    caller.join()
    assert closed_while_inside == [0]
    assert kernel.closed == 1
    assert np.array_equal(results[0], [2])


# Fork.


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_a_child_after_fork_is_told_at_once():
    """Every way in, also callables that were bound before; closing there harms the parent nothing."""
    kernel = Kernel()
    rt = runtime(offer("a", kernel, opener=True), offer("i", ItemKernel(), form="items", writes_out=True))
    op = rt.op("scale")
    op(row())
    rt.op("scale", require="i").submit(row()).result(10)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:  # the child reports by the pipe, and never returns to pytest
        ways = [
            lambda: op(row()),
            lambda: op(row(), factor=3),
            lambda: op.submit(row()),
            lambda: rt.submit("scale", row()),
            lambda: rt.op("scale"),
            lambda: rt.map("scale", [row()]),
            lambda: rt.reload(settings()),
        ]
        told = []
        for way in ways:
            start = time.perf_counter()
            try:
                way()
            except Exception as error:  # noqa: BLE001  # whatever it is, the parent wants to know
                told.append([type(error).__name__, time.perf_counter() - start])
        rt.close()
        os.write(write, json.dumps([told, kernel.closed]).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        told, closed = json.loads(pipe.read())
    os.waitpid(pid, 0)
    assert [name for name, _ in told] == ["ForkedRuntime"] * 7
    assert max(seconds for _, seconds in told) < 0.1
    assert closed == 0
    assert np.array_equal(op(row()), expect(row()))
    rt.close()
    assert kernel.closed == 1


# Reports.


def test_metrics_are_data():
    """Counts, seconds and work by operation and implementation, fit for JSON, adding up."""
    item = ItemKernel()
    with runtime(
        offer("a", Kernel(), 60),
        offer("items", item, form="items", writes_out=True),
        ops={"scale": {"batch_size": 4}},
    ) as rt:
        for _ in range(3):
            rt.run("scale", row(1, 2))
        rt.op("scale", require="items")(np.ones(10, "f"))
        data = json.loads(json.dumps(rt.metrics()))["ops"]["scale"]
        a, items = data["implementations"]["scale.a"], data["implementations"]["scale.items"]
        assert (data["calls"], a["calls"], items["calls"]) == (4, 3, 1)
        assert (items["items"], items["batches"], items["batch_sizes"]) == (10, 3, {"2": 1, "4": 2})
        assert data["work"] == pytest.approx((3 * 2 + 10) / 1000)
        assert a["share"] + items["share"] == pytest.approx(1.0)
        assert data["realtime"] == pytest.approx(data["work"] / data["seconds"])
        assert data["queue"] == {"waiting": 0, "refused": 0, "seconds": 0.0}


def test_the_summary_is_for_people(capsys):
    """It is printed and returned: a line per operation and per implementation that did something."""
    first = Kernel()
    with runtime(offer("first", first, 60), offer("second", Kernel()), offer("idle", Kernel(), 10)) as rt:
        first.act = raising(RuntimeError())
        rt.run("scale", row())
        text = rt.summary()
        assert "scale: 1 calls, 0.003 audio seconds" in text
        assert "scale.first: 0 calls, 0.0% of the time, 1 raised" in text
        assert "scale.second: 1 calls, 100.0% of the time" in text
        assert "times real time" in text
        assert "idle" not in text
        assert capsys.readouterr().out == text + "\n"


def test_health_of_an_operation_that_nobody_serves():
    """It is failed, and so is the whole."""
    with assay.Runtime(settings(), plugins=[plugin()]) as rt:
        assert rt.health()["status"] == "failed"
        assert rt.health()["ops"]["scale"]["serving"] is None
        json.dumps(rt.health())


def test_callbacks_hear_events_by_name():
    """``on`` with a name hears that event, with its fields."""
    first = Kernel()
    with runtime(offer("first", first, 60), offer("second", Kernel())) as rt:
        fell = []
        rt.on("call.fell_back", fell.append)
        first.act = raising(RuntimeError("why"))
        rt.run("scale", row())
        assert [(e["candidate"], e["failed"], e["reason"]) for e in fell] == [
            ("scale.second", "scale.first", "raised RuntimeError: why")
        ]


def test_bound_operations_are_the_same_and_bounded():
    """``op`` gives the same callable again; a program that varies its deadlines does not pile them up."""
    with runtime(offer("a", Kernel())) as rt:
        assert rt.op("scale") is rt.op("scale")
        for n in range(1, 1000):
            rt.op("scale", deadline_s=n)
        assert len(rt._bound) <= 256
        with heard(rt):
            assert np.array_equal(rt.op("scale")(row()), expect(row()))
