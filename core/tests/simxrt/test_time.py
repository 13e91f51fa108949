"""The model of time: what runs and syncs take, in order and overlapping, on both clocks."""

import itertools
import threading
import time
from typing import Any

import pytest
from assay.testing import simxrt
from assay.testing.simxrt import Simulator, SpinClock, Timing, VirtualClock


@pytest.fixture
def sim() -> Simulator:
    """A machine with a virtual clock."""
    return Simulator(timing=Timing(launch_us=60, us_per_item=1, bytes_per_second=1e9))


def elapsed(sim: Simulator, *calls: Any) -> float:
    """Return the microseconds that calls take on the simulator's clock."""
    begin = sim.clock.now()
    for call in calls:
        call()
    return (sim.clock.now() - begin) * 1e6


@pytest.mark.parametrize("items", [1, 10, 100, 1000])
def test_a_run_takes_launch_and_items(sim: Simulator, make_rig: Any, items: int) -> None:
    """A run takes 60 us, and 1 us for each item."""
    rig = make_rig(sim, items=items)
    assert elapsed(sim, rig.run.start, rig.run.wait) == pytest.approx(60 + items)


def test_a_kernel_with_times_of_its_own(sim: Simulator, make_rig: Any) -> None:
    """An xclbin may say how long its kernel takes."""
    rig = make_rig(sim, items=10, launch_us=5.0, us_per_item=2.0)
    assert elapsed(sim, rig.run.start, rig.run.wait) == pytest.approx(25)


def test_syncing_takes_its_bytes(sim: Simulator, make_rig: Any) -> None:
    """A sync takes 1 ns per byte, in both directions and for parts."""
    rig = make_rig(sim)
    bo = rig.buffer(rig.x.bo.host_only, 3, 80_000)
    assert elapsed(sim, lambda: bo.sync(rig.to_device)) == pytest.approx(80)
    assert elapsed(sim, lambda: bo.sync(rig.from_device)) == pytest.approx(80)
    assert elapsed(sim, lambda: bo.sync(rig.to_device, 5_000, 100)) == pytest.approx(5)


def test_batches_pay(sim: Simulator, make_rig: Any) -> None:
    """100 frames in one call, with their copying, are at least 20 times as fast as one by one."""
    single = _call(sim, make_rig(sim, items=1), frames=1)
    batch = _call(sim, make_rig(sim, items=100), frames=100)
    assert 100 * single / batch > 20


def _call(sim: Simulator, rig: Any, frames: int) -> float:
    x = rig.buffer(rig.x.bo.host_only, 3, 800 * frames)
    y = rig.buffer(rig.x.bo.host_only, 4, 80 * frames)
    run = rig.make_run(a3=x, a4=y)
    return elapsed(sim, lambda: x.sync(rig.to_device), run.start, run.wait, lambda: y.sync(rig.from_device))


def test_runs_go_one_at_a_time_in_order(sim: Simulator, make_rig: Any) -> None:
    """Two runs in flight take the time of both, and the second reads what the first has written."""
    rig = make_rig(sim, items=40)
    third = rig.buffer(rig.x.bo.host_only, 4)
    second = rig.make_run(a3=rig.output, a4=third)
    rig.fill(5)
    assert elapsed(sim, rig.run.start, second.start, second.wait) == pytest.approx(200)
    third.sync(rig.from_device)
    assert set(third.map()) == {7}


def test_copying_overlaps_computing(sim: Simulator, make_rig: Any) -> None:
    """While a run is in flight the host copies for the next one at no cost."""
    rig = make_rig(sim, items=100)
    big = rig.buffer(rig.x.bo.host_only, 3, 100_000)
    assert elapsed(sim, rig.run.start, lambda: big.sync(rig.to_device), rig.run.wait) == pytest.approx(160)


def test_the_first_run_after_a_rest(make_rig: Any) -> None:
    """After 10 s of rest a run takes 136 ms more, if the machine is so."""
    sim = Simulator(timing=Timing(idle_after_s=10.0))
    rig = make_rig(sim)
    assert elapsed(sim, rig.run.start, rig.run.wait) == pytest.approx(61)
    assert isinstance(sim.clock, VirtualClock)
    sim.clock.advance(11)
    assert elapsed(sim, rig.run.start, rig.run.wait) == pytest.approx(136_061)
    sim.clock.advance(9)
    assert elapsed(sim, rig.run.start, rig.run.wait) == pytest.approx(61)


def test_the_watchdog_can_be_set(make_rig: Any) -> None:
    """The watchdog's time is part of the model."""
    sim = Simulator(timing=Timing(watchdog_s=0.25))
    rig = make_rig(sim)
    bad = rig.make_run(a0=1)
    assert elapsed(sim, bad.start, bad.wait) == pytest.approx(250_000)


def test_a_free_device(make_rig: Any) -> None:
    """With FREE nothing takes any time."""
    sim = Simulator(timing=simxrt.FREE)
    rig = make_rig(sim, items=1000)
    assert elapsed(sim, rig.run.start, rig.run.wait, lambda: rig.input.sync(rig.to_device)) == 0


class TestSpinClock:
    """Real time."""

    def test_takes_real_time(self, make_rig: Any) -> None:
        """On the spinning clock a run takes its time in reality, and hardly more."""
        sim = Simulator(clock="spin")
        rig = make_rig(sim, items=440)
        times = []
        for _ in range(50):
            begin = time.perf_counter()
            rig.run.start()
            rig.run.wait()
            times.append(time.perf_counter() - begin)
        assert 500e-6 <= min(times) < 600e-6

    def test_host_functions_take_no_time(self, make_rig: Any) -> None:
        """The time that a host function takes is not the device's."""
        sim = Simulator(clock="spin")

        def slow(x: object, y: object) -> None:
            time.sleep(0.05)

        rig = make_rig(sim, function=slow)
        taken = [elapsed(sim, rig.run.start, rig.run.wait) for _ in range(5)]
        assert 60 <= min(taken) < 1000

    def test_freezing_nests(self) -> None:
        """A clock frozen twice goes on after being thawed twice, from where it stopped."""
        clock = SpinClock()
        clock.freeze()
        begin = clock.now()
        clock.freeze()
        time.sleep(0.01)
        clock.thaw()
        assert clock.now() == begin
        clock.thaw()
        assert 0 <= clock.now() - begin < 0.009

    def test_waits_hold_the_gil(self, make_rig: Any) -> None:
        """While wait blocks no other Python thread runs, as with pyxrt; between short waits they do."""
        sim = Simulator(clock="spin")
        rig = make_rig(sim, launch_us=60_000.0)
        beats: list[float] = []
        stop = threading.Event()

        def beat() -> None:
            while not stop.is_set():
                beats.append(time.perf_counter())
                time.sleep(0.001)

        thread = threading.Thread(target=beat)
        thread.start()
        try:
            long = _longest_silence(beats, rig.run.start, rig.run.wait)
            short = []  # the best of some tries: a busy machine makes silences of its own
            for _ in range(5):
                rig.run.start()
                short.append(_longest_silence(beats, *[lambda: rig.run.wait(2)] * 40))
                rig.run.wait()
        finally:
            stop.set()
            thread.join()
        assert long > 0.05
        assert min(short) < 0.03


def _longest_silence(beats: list[float], *calls: Any) -> float:
    begin = time.perf_counter()
    for call in calls:
        call()
        time.sleep(0.0005)
    end = time.perf_counter()
    marks = [begin, *[b for b in beats if begin < b < end], end]
    return max(b - a for a, b in itertools.pairwise(marks))
