"""``submit`` and ``map``: shared blocks, fairness, bounds, cancellation, faults that stay with the guilty."""

import asyncio
import threading
import time
from concurrent.futures import CancelledError, Future, wait

import assay
import numpy as np
import pytest
from assay import State
from toys import (
    Hang,
    ItemKernel,
    Kernel,
    expect,
    offer,
    operation,
    raising,
    returning,
    row,
    runtime,
    wait_for,
)


def items(kernel, priority=60, **capabilities):
    return offer("items", kernel, priority, form="items", writes_out=True, **capabilities)


@pytest.fixture
def queue():
    """An item kernel that can be held up, so that requests pile up behind it."""
    kernel, hang = ItemKernel(), Hang()
    with runtime(items(kernel), offer("plain", Kernel()), ops={"scale": {"batch_size": 16}}) as rt:
        kernel.rt, kernel.hang = rt, hang
        yield kernel
        hang.release()


def hold(kernel):
    """Send a request that keeps the kernel busy until ``kernel.hang`` is released."""
    kernel.act = lambda x: kernel.hang(x) if x[0] == -99 else None
    future = kernel.rt.submit("scale", row(-99))
    assert kernel.hang.entered.wait(5)
    kernel.blocks.clear()
    return future


def results(futures):
    return [future.result(10) for future in futures]


def check(inputs, futures, factor=2):
    for x, result in zip(inputs, results(futures), strict=True):
        assert np.array_equal(result, expect(x, factor))


# Sharing.


def test_a_future_is_a_standard_one(queue):
    """``concurrent.futures.wait`` and callbacks work on it."""
    future = queue.rt.submit("scale", row())
    called = threading.Event()
    future.add_done_callback(lambda _: called.set())
    assert isinstance(future, Future)
    assert not wait([future], timeout=10).not_done
    assert called.wait(10)
    assert np.array_equal(future.result(), expect(row()))


def test_a_lone_request_runs_at_once(queue):
    """Nothing to wait for: one block with its own items only, whatever the preset."""
    for preset in ("latency", "balanced", "throughput", "single"):
        kernel = ItemKernel()
        with runtime(items(kernel), preset=preset) as rt:
            rt.submit("scale", row(1, 2)).result(10)
            start = time.perf_counter()
            rt.submit("scale", row(3, 4)).result(10)
            assert time.perf_counter() - start < 0.05
            assert [list(block) for block in kernel.blocks if len(block) == 2] == [
                [1, 2],
                [3, 4],
            ] or preset == "single"


def test_what_arrives_while_the_kernel_is_busy_shares_the_next_block(queue):
    """Five requests, one block."""
    first = hold(queue)
    inputs = [row(n, n + 0.5) for n in range(5)]
    futures = [queue.rt.submit("scale", x) for x in inputs]
    queue.hang.release()
    check([row(-99), *inputs], [first, *futures])
    assert [len(block) for block in queue.blocks] == [10]
    counters = queue.rt.explain("scale")["items"].counters
    assert (counters.calls, counters.items, counters.batches) == (6, 11, 2)
    assert dict(counters.batch_sizes) == {1: 1, 10: 1}
    assert counters.queue_seconds > 0


def test_only_what_fits_together_shares(queue):
    """Requests with other parameters or another dtype get blocks of their own."""
    hold(queue)
    x = row(1, 2)
    futures = [
        queue.rt.submit("scale", x),
        queue.rt.submit("scale", x, factor=3),
        queue.rt.submit("scale", x),
        queue.rt.submit("scale", x.astype("float64")),
        queue.rt.submit("scale", x, factor=3),
    ]
    queue.hang.release()
    got = results(futures)
    assert [list(result) for result in got] == [[2, 4], [3, 6], [2, 4], [2, 4], [3, 6]]
    assert [result.dtype.name for result in got] == ["float32", "float32", "float32", "float64", "float32"]
    assert sorted(len(block) for block in queue.blocks) == [2, 4, 4] or sorted(
        len(block) for block in queue.blocks
    ) == [4, 6]


def test_blocks_have_declared_sizes():
    """However many items came together, the kernel sees no other length than it declared."""
    kernel = ItemKernel()
    kernel.hang = Hang()
    with runtime(items(kernel, batch_sizes=(4, 8)), ops={"scale": {"batch_size": 8}}) as rt:
        kernel.rt = rt
        first = hold(kernel)
        inputs = [np.arange(n + 1, dtype="f") for n in range(7)]
        futures = [rt.submit("scale", x) for x in inputs]
        kernel.hang.release()
        first.result(10)
        check(inputs, futures)
        assert {len(block) for block in kernel.blocks} <= {4, 8}
        assert len(kernel.blocks) <= 5


def test_a_huge_request_does_not_keep_small_ones_waiting(queue):
    """Everybody gets an equal part of a block: small requests are done long before the huge one."""
    hold(queue)
    huge = np.arange(1, 16 * 40 + 1, dtype="f")
    done = []
    big = queue.rt.submit("scale", huge)
    big.add_done_callback(lambda _: done.append("huge"))
    small = [queue.rt.submit("scale", row(n, n + 1, n + 2)) for n in range(3)]
    for future in small:
        future.add_done_callback(lambda _: done.append("small"))
    queue.hang.release()
    check([huge, *[row(n, n + 1, n + 2) for n in range(3)]], [big, *small])
    assert done == ["small", "small", "small", "huge"]
    sizes = [len(block) for block in queue.blocks]
    assert sizes[0] == 16, "what the small ones leave free goes to the huge one"
    assert sum(sizes) == huge.size + 9


def test_more_requests_than_fit_take_turns(queue):
    """In order of arrival, and nobody twice before everybody once."""
    hold(queue)
    inputs = [row(n) for n in range(40)]
    futures = [queue.rt.submit("scale", x) for x in inputs]
    queue.hang.release()
    check(inputs, futures)
    assert [list(block) for block in queue.blocks] == [
        list(range(16)),
        list(range(16, 32)),
        list(range(32, 40)),
    ]


def test_an_empty_request(queue):
    """No items, no call, an empty answer."""
    assert queue.rt.submit("scale", np.empty(0, "f")).result(10).shape == (0,)


def test_whole_kernels_are_run_by_workers():
    """They share no block; several run side by side."""
    kernel, together = Kernel(), threading.Barrier(3, timeout=5)
    with runtime(offer("plain", kernel)) as rt:
        rt.run("scale", row())
        kernel.act = lambda x: None if together.wait() >= 0 else x
        check([row(n) for n in range(3)], [rt.submit("scale", row(n)) for n in range(3)])


def test_out_is_filled(queue):
    """``submit`` takes ``out`` as a call does."""
    for op in (queue.rt.op("scale"), queue.rt.op("scale", require="plain")):
        out = np.zeros(3, "f")
        assert op.submit(row(), out=out).result(10) is out
        assert np.array_equal(out, expect(row()))


def test_company_is_waited_for():
    """After a shared block, the next one waits for the same company, a fraction of the kernel's own time."""
    kernel = ItemKernel()
    kernel.hang = Hang()
    with runtime(items(kernel)) as rt:
        kernel.rt = rt
        hold(kernel)
        slow = lambda x: time.sleep(0.2)  # noqa: E731
        kernel.act, futures = slow, [rt.submit("scale", row(n)) for n in range(2)]
        kernel.hang.release()
        results(futures)
        again = rt.submit("scale", row(3))
        time.sleep(0.005)
        late = rt.submit("scale", row(4))
        results([again, late])
        assert list(kernel.blocks[-1]) == [3, 4]


# Faults.


def test_one_bad_request_fails_alone(queue):
    """A block that fails is halved until only the guilty request goes on to the next plan."""
    hold(queue)
    queue.act = raising_for(queue, 7)
    inputs = [row(n) for n in range(12)]
    futures = [queue.rt.submit("scale", x) for x in inputs]
    queue.hang.release()
    check(inputs, futures)
    counters = {c.implementation.name: c.counters for c in queue.rt.explain("scale").candidates}
    assert counters["items"].calls == 12, "the held one and the eleven sound ones"
    assert counters["plain"].calls == 1
    assert dict(counters["items"].failures) == {"raised": 1}, "one guilty request, one failure"


def raising_for(kernel, value):
    """Act: raise when a value is in the block; hold up as before."""
    return lambda x: (
        kernel.hang(x) if x[0] == -99 else raising(RuntimeError("poison"))(x) if value in x else None
    )


def test_a_request_that_nobody_can_serve_gets_its_own_error(queue):
    """Its neighbours get their answers."""
    plain = queue.rt._dispatchers["scale"].roster.servers[1].ready().call
    hold(queue)
    queue.act = raising_for(queue, 7)
    plain.act = raising(RuntimeError("poison here too"))
    futures = [queue.rt.submit("scale", row(n)) for n in range(12)]
    queue.hang.release()
    for n, future in enumerate(futures):
        if n == 7:
            with pytest.raises(assay.OperationFailed, match="poison here too"):
                future.result(10)
        else:
            assert np.array_equal(future.result(10), [2 * n])


@pytest.mark.parametrize(
    "act",
    [
        raising(SystemExit()),
        returning(lambda x: np.zeros(len(x) + 1, "f")),
        returning(lambda x: np.full_like(x, np.nan)),
        raising(MemoryError()),
        raising(assay.DeviceLost("gone")),
    ],
    ids=["exit", "shape", "nan", "memory", "device"],
)
def test_a_failing_kernel_costs_no_answer(queue, act):
    """Whatever goes wrong with a block, every request in it is served."""
    hold(queue)
    inputs = [row(n, n) for n in range(1, 6)]
    futures = [queue.rt.submit("scale", x) for x in inputs]
    queue.act = act
    queue.hang.release()
    check(inputs, futures)


def test_out_of_memory_is_tried_again_in_smaller_blocks(queue):
    """A block too large for the memory is halved until it fits: the same kernel serves, and stays."""
    first = hold(queue)

    def small(x):
        if len(x) > 4:
            raise MemoryError

    queue.act = lambda x: queue.hang(x) if x[0] == -99 else small(x)
    inputs = [row(n, n) for n in range(8)]
    futures = [queue.rt.submit("scale", x) for x in inputs]
    queue.hang.release()
    first.result(10)
    check(inputs, futures)
    assert [len(block) for block in queue.blocks] == [16, 8, 4, 4, 8, 4, 4]
    counters = queue.rt.explain("scale")["items"].counters
    assert (counters.calls, dict(counters.failures)) == (9, {"out_of_memory": 1})
    assert queue.rt.explain("scale")["items"].state is State.SERVING


def test_a_failure_that_passes_is_still_one(queue):
    """When both halves of a failed block are right, the kernel has failed once and has served everybody."""
    first, failed = hold(queue), []

    def once(x):
        if len(x) == 8 and not failed:
            failed.append(1)
            raise RuntimeError("a hiccup")

    queue.act = lambda x: queue.hang(x) if x[0] == -99 else once(x)
    inputs = [row(n) for n in range(8)]
    futures = [queue.rt.submit("scale", x) for x in inputs]
    queue.hang.release()
    first.result(10)
    check(inputs, futures)
    counters = queue.rt.explain("scale")["items"].counters
    assert (counters.calls, dict(counters.failures)) == (9, {"raised": 1})


def test_a_nan_is_its_senders(queue):
    """A kernel that looks for NaN itself raises for the block; only the request with the NaN is refused."""
    kernel = ItemKernel()
    kernel.hang = Hang()

    def strict(x):
        if x[0] == -99:
            return kernel.hang(x)
        if not np.isfinite(x).all():
            raise FloatingPointError("NaN")
        return None

    with runtime(
        items(kernel, checks_finite=True), offer("plain", Kernel()), op=operation(finite=True)
    ) as rt:
        kernel.rt = rt
        hold(kernel)
        kernel.act = strict
        futures = [rt.submit("scale", row(n if n != 2 else np.nan)) for n in range(5)]
        kernel.hang.release()
        with pytest.raises(assay.InvalidInput, match="x holds 1 non-finite"):
            futures.pop(2).result(10)
        check([row(n) for n in (0, 1, 3, 4)], futures)
        assert dict(rt.explain("scale")["items"].counters.failures) == {}


def test_what_is_wrong_with_a_request_comes_from_its_future(queue):
    """``submit`` itself raises only what is not the request's: a full queue, a closed runtime."""
    bad = [
        queue.rt.submit("scale", np.zeros((2, 2), "f")),
        queue.rt.submit("scale", "text"),
        queue.rt.submit("scale", row(), faktor=3),
        queue.rt.submit("scale"),
    ]
    for future in bad:
        with pytest.raises(assay.InvalidInput):
            future.result(10)
    assert queue.rt.health()["ops"]["scale"]["waiting"] == 0


def test_waiting_requests_leave_a_kernel_that_goes_into_quarantine():
    """Those that wait for it are routed anew."""
    kernel, other = ItemKernel(), Kernel()
    kernel.hang = Hang()
    with runtime(
        items(kernel),
        offer("plain", other),
        fallback={"failures": 1, "cooldown_s": 60},
        ops={"scale": {"batch_size": 2}},
    ) as rt:
        kernel.rt = rt
        hold(kernel)
        kernel.act = lambda x: kernel.hang(x) if x[0] == -99 else raising(RuntimeError())(x)
        inputs = [row(n) for n in range(30)]
        futures = [rt.submit("scale", x) for x in inputs]
        kernel.hang.release()
        check(inputs, futures)
        assert len(kernel.blocks) < 10
        assert rt.explain("scale")["items"].state is State.QUARANTINED


def test_a_kernel_that_does_not_load():
    """A standby whose opener raises when its turn comes: its requests are served by the next."""

    def open_kernel(device, plan):
        raise OSError("no such device")

    broken = assay.Implementation(
        op="scale",
        name="broken",
        priority=60,
        opener=open_kernel,
        capabilities=assay.Capabilities(form="items"),
    )
    kernel = Kernel()
    with runtime(
        offer("top", kernel, 90), offer("next", Kernel(), 80), broken, offer("last", Kernel())
    ) as rt:
        third = rt.op("scale", require="broken")
        with pytest.raises(assay.OperationFailed, match="no such device"):
            third.submit(row()).result(10)
        assert np.array_equal(rt.submit("scale", row()).result(10), expect(row()))


# Bounds.


def test_a_full_queue_says_so(queue):
    """One more than ``queue.limit`` is Overloaded, at once; room again, and it takes requests again."""
    queue.rt.reload(assay.Config(**{**queue.rt.config.model_dump(), "queue": {"limit": 3}}))
    first = hold(queue)
    futures = [queue.rt.submit("scale", row(n)) for n in range(3)]
    for _ in range(2):
        with pytest.raises(assay.Overloaded, match="3 requests wait already"):
            queue.rt.submit("scale", row())
    assert queue.rt.metrics()["ops"]["scale"]["queue"]["refused"] == 2
    queue.hang.release()
    results([first, *futures])
    assert np.array_equal(queue.rt.submit("scale", row()).result(10), expect(row()))
    assert queue.rt.health()["ops"]["scale"]["waiting"] == 0


def test_cancelled_requests_never_reach_the_kernel(queue):
    """They drop out, and their place is free again."""
    hold(queue)
    futures = [queue.rt.submit("scale", row(n)) for n in range(6)]
    assert all(future.cancel() for future in futures[::2])
    queue.hang.release()
    check([row(1), row(3), row(5)], futures[1::2])
    for future in futures[::2]:
        with pytest.raises(CancelledError):
            future.result(10)
    assert [list(block) for block in queue.blocks] == [[1, 3, 5]]
    wait_for(lambda: queue.rt.health()["ops"]["scale"]["waiting"] == 0)


# asyncio.


def test_from_asyncio(queue):
    """``asyncio.wrap_future``: results, errors, and cancellation by a timeout."""

    async def serve():
        good = await asyncio.gather(
            *(asyncio.wrap_future(queue.rt.submit("scale", row(n))) for n in range(10))
        )
        assert [float(result[0]) for result in good] == [2.0 * n for n in range(10)]
        with pytest.raises(assay.InvalidInput):
            await asyncio.wrap_future(queue.rt.submit("scale", "text"))
        hold(queue)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(queue.rt.submit("scale", row(5))), 0.02)
        queue.hang.release()

    asyncio.run(serve())
    queue.rt.submit("scale", row()).result(10)
    assert 5.0 not in np.concatenate(queue.blocks)


# map.


def test_map_is_in_order_and_looks_ahead_a_little(queue):
    """Results in the order of the inputs, which are taken only as they are needed."""
    taken = []

    def inputs():
        for n in range(200):
            taken.append(n)
            yield row(n, n + 1)

    results = queue.rt.map("scale", inputs())
    assert taken == []
    for n, result in enumerate(results):
        assert np.array_equal(result, [2 * n, 2 * n + 2])
        assert len(taken) <= n + 40
    assert len(taken) == 200


def test_map_passes_parameters_and_tuples(queue):
    """Keywords go to every request; a tuple is its positional arguments."""
    assert [list(r) for r in queue.rt.map("scale", [row(1), (row(2),)], factor=3)] == [[3], [6]]


def test_map_that_is_left_cancels_what_it_has_under_way(queue):
    """An iteration that ends early leaves nothing behind."""
    hold(queue)
    results = queue.rt.map("scale", (row(n) for n in range(100)))
    wanted = threading.Thread(target=lambda: next(results))
    wanted.start()
    wait_for(lambda: queue.rt.health()["ops"]["scale"]["waiting"] == 32)
    queue.hang.release()
    wanted.join()
    results.close()
    wait_for(lambda: queue.rt.health()["ops"]["scale"]["waiting"] == 0)


def test_map_raises_at_its_place(queue):
    """What came before the bad input is there."""
    results = queue.rt.map("scale", [row(1), row(2), "text", row(3)])
    assert np.array_equal(next(results), [2])
    assert np.array_equal(next(results), [4])
    with pytest.raises(assay.InvalidInput):
        next(results)


def test_map_in_a_full_queue_works_itself(queue):
    """Where others fill the queue, the iterating thread does the work rather than fail."""
    queue.rt.reload(assay.Config(**{**queue.rt.config.model_dump(), "queue": {"limit": 2}}))
    hold(queue)
    others = [queue.rt.submit("scale", row(n)) for n in range(2)]
    mapped = queue.rt.map("scale", [row(1), row(2)])
    thread_result = []
    worker = threading.Thread(target=lambda: thread_result.extend(mapped))
    worker.start()
    worker.join(5)
    assert [list(r) for r in thread_result] == [[2], [4]]
    queue.hang.release()
    results(others)


# A lone caller.


def test_a_lone_caller_serves_its_own_request(queue):
    """Who waits for a request that nobody has begun runs it: no other thread is asked."""
    ran = []
    queue.act = lambda x: ran.append(threading.current_thread())
    for n in range(20):
        assert np.array_equal(queue.rt.submit("scale", row(n)).result(), [2 * n])
    assert threading.main_thread() in ran


def test_nobody_waits_for_a_caller_that_helps_itself(queue):
    """What arrives while a lone caller runs its own request is served after it, with nothing lost."""
    futures = []

    def arrive(x):
        if x[0] == 0:
            futures.extend(queue.rt.submit("scale", row(n)) for n in range(1, 6))

    queue.act = arrive
    for _ in range(20):
        futures.clear()
        assert np.array_equal(queue.rt.submit("scale", row(0)).result(), [0])
        check([row(n) for n in range(1, 6)], futures)


def test_waiting_with_a_timeout(queue):
    """A future's ``result(timeout)`` and ``exception(timeout)`` end in time, and can be asked again."""
    held = hold(queue)
    future = queue.rt.submit("scale", row(1))
    for wait_for_it in (future.result, future.exception):
        start = time.perf_counter()
        with pytest.raises(TimeoutError):
            wait_for_it(0.02)
        assert time.perf_counter() - start < 1
    queue.hang.release()
    assert future.exception(10) is None
    assert [list(f.result(0)) for f in (future, held)] == [[2], [-198]]
    assert future.cancel() is False
