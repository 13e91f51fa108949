"""Lifetimes of handles, and what may not be done to a buffer in flight."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from assay.testing.simxrt import Live, Simulator


def test_live(sim: Simulator, make_rig: Any) -> None:
    """Every handle is counted while it lives."""
    rig = make_rig(sim)
    assert sim.live == Live(devices=1, contexts=1, kernels=1, buffers=3, runs=1)
    part = rig.x.bo(rig.input, 8, 0)
    assert sim.live.buffers == 4
    del rig, part
    assert sim.live == Live()


def test_owners_are_kept(rig: Any, sim: Simulator) -> None:
    """A run keeps its kernel, a kernel its context, a context its device."""
    run = rig.run
    rig.__dict__.clear()
    assert sim.live == Live(devices=1, contexts=1, kernels=1, buffers=0, runs=1)
    del run
    assert sim.live == Live()


def test_failed_constructions_count_nothing(rig: Any, sim: Simulator) -> None:
    """What raised in its constructor is no handle."""
    before = sim.live
    makers: list[Callable[[], Any]] = [
        lambda: rig.x.bo(rig.device, 8, rig.x.bo.normal, 0),
        lambda: rig.x.kernel(rig.context, "none"),
        lambda: rig.x.device(3),
        lambda: rig.x.run(3),
    ]
    for make in makers:
        with pytest.raises((RuntimeError, TypeError)):
            make()
        assert sim.live == before


def test_order_of_destruction(sim: Simulator, make_rig: Any) -> None:
    """The order in which handles went is remembered."""
    rig = make_rig(sim)
    del rig.run, rig.input, rig.output, rig.instructions, rig.kernel, rig.context, rig.device
    assert list(sim.tally.destroyed) == ["runs", *["buffers"] * 3, "kernels", "contexts", "devices"]


def test_reuse_in_flight_is_a_race(rig: Any, sim: Simulator) -> None:
    """Writing, syncing or destroying a buffer that a run is using is noted as a bug of the driver."""
    rig.fill(1)
    rig.run.start()
    rig.input.write(b"\1", 0)
    rig.input.sync(rig.to_device)
    rig.output.sync(rig.from_device)  # too early, but harmless
    assert [r.partition(":")[0] for r in sim.races] == ["write", "sync to the device"]
    rig.run.wait()
    rig.input.write(b"\1", 0)
    assert len(sim.races) == 2


def test_neighbouring_regions_do_not_race(rig: Any, sim: Simulator) -> None:
    """Another part of the same buffer may be written while a run is in flight."""
    root = rig.buffer(rig.x.bo.host_only, 3, 256)
    first, second = rig.x.bo(root, 64, 0), rig.x.bo(root, 64, 64)
    run = rig.make_run(a3=first)
    run.start()
    second.write(bytes(64), 0)
    second.sync(rig.to_device)
    assert sim.races == []
    run.wait()


def test_threads(rig: Any, sim: Simulator) -> None:
    """Runs from several threads all end right."""
    wrong: list[object] = []

    def work(value: int) -> None:
        x, y = rig.buffer(rig.x.bo.host_only, 3), rig.buffer(rig.x.bo.host_only, 4)
        run = rig.make_run(a3=x, a4=y)
        for i in range(50):
            x.write(np.full(64, value + i % 3, np.uint8), 0)
            x.sync(rig.to_device)
            run.start()
            state = run.wait(1000)
            y.sync(rig.from_device)
            if state.name != "ERT_CMD_STATE_COMPLETED" or set(y.map()) != {value + i % 3 + 1}:
                wrong.append((value, i, state))

    threads = [threading.Thread(target=work, args=(10 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert sim.races == []
