"""Faults on demand: each kind at each step, how often, and that nothing leaks."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from assay.testing import simxrt
from assay.testing.simxrt import Fault, Kind, Live, SimulatedHang, Simulator, Step

OLD = 0xC3  # what the rig leaves in the output buffer before a run


def slots(x: np.ndarray, y: np.ndarray) -> None:
    """Write the item's number, counted from 1, plus the first input byte."""
    y.reshape(8, -1)[:] = np.arange(1, 9, dtype=np.uint8)[:, None] + x[0]


def inject(sim: Simulator, kind: Kind, step: Step = Step.RUN, **options: Any) -> simxrt.Injection:
    """Arm a fault."""
    return sim.inject(Fault(step, kind, **options))


STATES = {Kind.ERROR: "ERROR", Kind.ABORT: "ABORT", Kind.NO_RESPONSE: "NORESPONSE", Kind.WATCHDOG: "TIMEOUT"}


@pytest.mark.parametrize("kind", STATES)
def test_end_states(rig: Any, sim: Simulator, kind: Kind) -> None:
    """A run can end as ERROR, ABORT, NORESPONSE or TIMEOUT; nothing is written, and the next one is right."""
    inject(sim, kind)
    state, output = rig.call(1)
    assert state == STATES[kind]
    assert set(output) == {OLD}
    assert rig.call(1) == ("COMPLETED", bytes([2]) * 64)


def test_watchdog_holds_the_device(rig: Any, sim: Simulator) -> None:
    """Until the watchdog strikes, 2 s later, the runs behind wait."""
    inject(sim, Kind.WATCHDOG)
    second = rig.make_run()
    begin = sim.clock.now()
    rig.run.start()
    second.start()
    second.wait()
    assert sim.clock.now() - begin == pytest.approx(2.0, abs=0.001)


def test_hang(rig: Any, sim: Simulator) -> None:
    """A run that hangs never ends, is no reason for others to wait, and makes an unlimited wait hang."""
    inject(sim, Kind.HANG)
    rig.run.start()
    assert rig.run.wait(60_000).name == "ERT_CMD_STATE_TIMEOUT"
    assert rig.run.state().name == "ERT_CMD_STATE_SUBMITTED"
    with pytest.raises(SimulatedHang):
        rig.run.wait()
    with pytest.raises(RuntimeError, match="bad command state"):
        rig.run.start()
    assert rig.make_run().wait(1).name == "ERT_CMD_STATE_TIMEOUT"  # never started
    second = rig.make_run()
    second.start()
    assert second.wait(10).name == "ERT_CMD_STATE_COMPLETED"
    sim.lose_device()  # so that no unfinished run is destroyed


def test_hang_that_ends(rig: Any, sim: Simulator) -> None:
    """A hang of limited duration ends as TIMEOUT, after which the run can be started again."""
    inject(sim, Kind.HANG, seconds=5.0)
    begin = sim.clock.now()
    rig.run.start()
    assert rig.run.wait().name == "ERT_CMD_STATE_TIMEOUT"
    assert sim.clock.now() - begin == pytest.approx(5.0)
    assert rig.call(1)[0] == "COMPLETED"


@pytest.mark.parametrize(
    ("kind", "options", "values"),
    [
        (Kind.UNWRITTEN, {}, {OLD}),
        (Kind.ZEROS, {}, {0}),
        (Kind.CONSTANT, {}, {1}),
        (Kind.CONSTANT, {"value": 255}, {255}),
    ],
)
def test_completed_with_wrong_bytes(
    rig: Any, sim: Simulator, kind: Kind, options: dict[str, Any], values: set[int]
) -> None:
    """A run can complete with an untouched, zero or constant output."""
    inject(sim, kind, **options)
    state, output = rig.call(40)
    assert (state, set(output)) == ("COMPLETED", values)
    assert set(rig.call(40)[1]) == {41}


def test_constant_255_is_nan(rig: Any, sim: Simulator) -> None:
    """Constant 255 reads as NaN in every float type."""
    inject(sim, Kind.CONSTANT, value=255)
    output = rig.call(1)[1]
    assert np.isnan(np.frombuffer(output, np.float32)).all()
    assert np.isnan(np.frombuffer(output, np.float16)).all()


def test_garbage(rig: Any, sim: Simulator) -> None:
    """Garbage is random, and differs from call to call."""
    inject(sim, Kind.GARBAGE, count=2)
    first, second = rig.call(1)[1], rig.call(1)[1]
    assert len(set(first)) > 20
    assert first != second


def test_stale(rig: Any, sim: Simulator) -> None:
    """A stale output is that of the run before, even while the fault goes on."""
    rig.call(10)
    inject(sim, Kind.STALE, count=2)
    assert set(rig.call(20)[1]) == {11}
    assert set(rig.call(30)[1]) == {21}
    assert set(rig.call(40)[1]) == {41}


def test_slot(sim: Simulator, make_rig: Any) -> None:
    """One item of the batch can be left as it was."""
    rig = make_rig(sim, function=slots, items=8)
    inject(sim, Kind.SLOT, slot=5)
    output = np.frombuffer(rig.call(0)[1], np.uint8).reshape(8, 8)
    assert [set(row.tolist()) for row in output] == [{1}, {2}, {3}, {4}, {5}, {OLD}, {7}, {8}]


def test_slow(rig: Any, sim: Simulator) -> None:
    """A slow run is right, and late by what was asked for."""
    rig.fill(1)
    inject(sim, Kind.SLOW, seconds=0.5)
    begin = sim.clock.now()
    rig.run.start()
    rig.run.wait()
    assert sim.clock.now() - begin == pytest.approx(0.5 + 61e-6)
    rig.output.sync(rig.from_device)
    assert set(rig.output.map()) == {2}


CALLS: dict[Step, Callable[[Any], object]] = {
    Step.OPEN: lambda rig: rig.x.device(0),
    Step.REGISTER: lambda rig: rig.device.register_xclbin(rig.x.xclbin(rig.path)),
    Step.CONTEXT: lambda rig: rig.x.hw_context(rig.device, rig.x.xclbin(rig.path).get_uuid()),
    Step.KERNEL: lambda rig: rig.x.kernel(rig.context, "MLIR_AIE"),
    Step.ALLOCATE: lambda rig: rig.x.bo(rig.device, 8, rig.x.bo.host_only, 0),
    Step.MAP: lambda rig: rig.input.map(),
    Step.WRITE: lambda rig: rig.input.write(b"a", 0),
    Step.SYNC: lambda rig: rig.input.sync(rig.to_device),
    Step.START: lambda rig: (rig.run.start(), rig.run.wait()),
    Step.WAIT: lambda rig: rig.run.wait(1),
    Step.READ: lambda rig: rig.input.read(1, 0),
}

MESSAGES = {
    Step.OPEN: "No such device with index '0'",
    Step.REGISTER: "register_xclbin: Input/output error",
    Step.CONTEXT: "DRM_IOCTL_AMDXDNA_CREATE_HWCTX IOCTL failed (err=-22): Invalid argument",
    Step.KERNEL: "DRM_IOCTL_AMDXDNA_CONFIG_HWCTX IOCTL failed (err=-22): Invalid argument",
    Step.ALLOCATE: "DRM_IOCTL_AMDXDNA_CREATE_BO IOCTL failed (err=-12): Cannot allocate memory",
    Step.MAP: "buffer is not mapped: Invalid argument",
    Step.WRITE: "buffer is not mapped: Invalid argument",
    Step.SYNC: "DRM_IOCTL_AMDXDNA_SYNC_BO IOCTL failed (err=-5): Input/output error",
    Step.START: "DRM_IOCTL_AMDXDNA_EXEC_CMD IOCTL failed (err=-5): Input/output error",
    Step.WAIT: "DRM_IOCTL_AMDXDNA_WAIT_CMD IOCTL failed (err=-5): Input/output error",
    Step.READ: "buffer is not mapped: Invalid argument",
}


@pytest.mark.parametrize("step", CALLS)
def test_a_call_fails(rig: Any, sim: Simulator, step: Step) -> None:
    """Each call can be made to raise, in words that the driver uses there, and works again afterwards."""
    injection = inject(sim, Kind.FAIL, step)
    with pytest.raises(RuntimeError) as raised:
        CALLS[step](rig)
    assert str(raised.value) == MESSAGES[step]
    assert (injection.seen, injection.hits) == (1, 1)
    CALLS[step](rig)
    assert rig.call(1)[0] == "COMPLETED"


def test_a_message_of_ones_own(rig: Any, sim: Simulator) -> None:
    """A fault can say anything."""
    inject(sim, Kind.FAIL, Step.SYNC, message="ENOSPC")
    with pytest.raises(RuntimeError, match=r"^ENOSPC$"):
        rig.input.sync(rig.to_device)


def test_a_failed_wait_leaves_the_run(rig: Any, sim: Simulator) -> None:
    """When wait fails the run goes on, and a second wait sees its end."""
    rig.fill(1)
    inject(sim, Kind.FAIL, Step.WAIT)
    rig.run.start()
    with pytest.raises(RuntimeError):
        rig.run.wait(10)
    assert rig.run.wait(10).name == "ERT_CMD_STATE_COMPLETED"


NEED_DEVICE = [Step.OPEN, Step.REGISTER, Step.CONTEXT, Step.KERNEL, Step.ALLOCATE, Step.SYNC, Step.START]


@pytest.mark.parametrize("step", CALLS)
def test_device_lost(rig: Any, sim: Simulator, step: Step) -> None:
    """A device that is lost at one step is lost at all of them, until it comes back."""
    inject(sim, Kind.LOST, step)
    if step in NEED_DEVICE:
        with pytest.raises(RuntimeError, match="No such device"):
            CALLS[step](rig)
    else:
        with pytest.raises(RuntimeError):
            CALLS[step](rig)
        CALLS[step](rig)  # what touches only the host's memory still works
    for other in NEED_DEVICE:
        with pytest.raises(RuntimeError, match="No such device"):
            CALLS[other](rig)
    sim.return_device()
    assert rig.call(1)[0] == "COMPLETED"


def test_device_lost_while_running(rig: Any, sim: Simulator) -> None:
    """Runs in flight when the device is lost, hung ones too, end as ABORT."""
    inject(sim, Kind.HANG)
    hung, running, last = (rig.make_run() for _ in range(3))
    hung.start()
    running.start()
    inject(sim, Kind.LOST)
    last.start()
    assert [r.wait().name for r in (hung, running, last)] == ["ERT_CMD_STATE_ABORT"] * 3
    with pytest.raises(RuntimeError, match=r"EXEC_CMD IOCTL failed \(err=-19\): No such device"):
        last.start()


def test_how_often(rig: Any, sim: Simulator) -> None:
    """A fault lets some runs pass, strikes a number of times, and then is over."""
    injection = inject(sim, Kind.ZEROS, after=2, count=3)
    zeros = [set(rig.call(1)[1]) == {0} for _ in range(8)]
    assert zeros == [False, False, True, True, True, False, False, False]
    assert injection.hits == 3


def test_for_ever_until_cleared(rig: Any, sim: Simulator) -> None:
    """With count=None a fault strikes every time, until all faults are cleared."""
    inject(sim, Kind.ZEROS, count=None)
    assert all(set(rig.call(1)[1]) == {0} for _ in range(20))
    sim.clear_faults()
    assert set(rig.call(1)[1]) == {2}


def test_by_chance(make_rig: Any) -> None:
    """A fault with a probability strikes about that often, and alike for one seed."""

    def hits(seed: int) -> list[bool]:
        sim = Simulator(seed=seed)
        rig = make_rig(sim)
        inject(sim, Kind.ZEROS, count=None, probability=0.3)
        return [set(rig.call(1)[1]) == {0} for _ in range(400)]

    first = hits(1)
    assert 80 < sum(first) < 160  # 120 expected, 9 the standard deviation
    assert first == hits(1) != hits(2)


def test_one_program_only(rig: Any, sim: Simulator) -> None:
    """A fault can be kept to the runs of one program."""
    other = inject(sim, Kind.ZEROS, program="other", count=None)
    mine = inject(sim, Kind.CONSTANT, program="rig", value=9)
    assert set(rig.call(1)[1]) == {9}
    assert (other.hits, mine.hits) == (0, 1)


def test_impossible_faults() -> None:
    """A kind that makes no sense at a step is refused with those that do."""
    with pytest.raises(ValueError, match="'zeros' can't strike at step 'open': it takes fail, lost"):
        Fault(Step.OPEN, Kind.ZEROS)
    with pytest.raises(ValueError, match="'fail' can't strike at step 'run': it takes abort, constant"):
        Fault(Step.RUN, Kind.FAIL)


def test_names_are_enough() -> None:
    """Steps and kinds can be given by name, as in a file."""
    assert Fault("run", "zeros") == Fault(Step.RUN, Kind.ZEROS)  # type: ignore[arg-type]


def test_every_fault() -> None:
    """every_fault covers each step with each kind that it takes, once."""
    faults = [(f.step, f.kind) for f in simxrt.every_fault()]
    assert len(faults) == len(set(faults)) == 11 * 2 + 13
    assert {step for step, _ in faults} == set(Step)
    assert {kind for _, kind in faults} == set(Kind)


def test_ten_thousand_faults_leak_nothing(sim: Simulator, make_rig: Any) -> None:
    """Handles are gone after 10,000 faults at all steps."""
    rig = make_rig(sim)
    faults = [f for f in simxrt.every_fault() if f.kind not in (Kind.HANG, Kind.LOST)]
    for i in range(10_000):
        fault = faults[i % len(faults)]
        sim.inject(fault)
        if fault.step is Step.RUN:
            rig.run.start()
            rig.run.wait()
        else:
            with pytest.raises(RuntimeError):
                CALLS[fault.step](rig)
        sim.clear_faults()
    assert sim.live == Live(devices=1, contexts=1, kernels=1, buffers=3, runs=1)
    assert (sim.crashes, sim.races) == ([], [])
    del rig
    assert sim.live == Live()
