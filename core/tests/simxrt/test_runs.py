"""Runs: arguments, starting, waiting, the direct call."""

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from assay.testing import simxrt
from assay.testing.simxrt import KernelImage, SimulatedCrash, SimulatedHang, Simulator


def test_completes(rig: Any) -> None:
    """With everything in place a run completes and its output is the function's."""
    assert [rig.call(v)[0] for v in (1, 2)] == ["COMPLETED"] * 2
    assert set(rig.call(41)[1]) == {42}


@pytest.mark.parametrize("unit", ["bytes", "words"])
def test_length_unit(sim: Simulator, make_rig: Any, unit: str) -> None:
    """The length of the instructions counts bytes or words, as the design was built; the other times out."""
    rig = make_rig(sim, length_unit=unit)
    right = rig.code.nbytes if unit == "bytes" else rig.code.size
    wrong = rig.code.nbytes + rig.code.size - right
    assert rig.call(1, rig.make_run(a2=right))[0] == "COMPLETED"
    assert rig.call(1, rig.make_run(a2=wrong))[0] == "TIMEOUT"


def test_another_opcode(rig: Any) -> None:
    """An opcode other than the kernel's times out."""
    assert rig.call(1, rig.make_run(a0=2))[0] == "TIMEOUT"


def test_unsynced_instructions(rig: Any) -> None:
    """Instructions that never reached the device time out, after the watchdog's 2 s."""
    rig.instructions = rig.buffer(rig.x.bo.cacheable, 1, rig.code.nbytes)
    rig.instructions.write(rig.code, 0)
    run = rig.make_run()
    clock = rig.x.run._sim.clock
    begin = clock.now()
    state, output = rig.call(1, run)
    assert state == "TIMEOUT"
    assert clock.now() - begin == pytest.approx(2.0, abs=0.01)
    assert set(output) == {0xC3}


def test_instructions_must_be_cacheable(rig: Any) -> None:
    """Instructions in a host_only buffer time out."""
    rig.instructions = rig.buffer(rig.x.bo.host_only, 1, rig.code.nbytes)
    rig.instructions.write(rig.code, 0)
    rig.instructions.sync(rig.to_device)
    assert rig.call(1, rig.make_run())[0] == "TIMEOUT"


def test_instructions_of_another_kernel(rig: Any) -> None:
    """The instruction file of another design times out."""
    rig.instructions.write(simxrt.instructions("other"), 0)
    rig.instructions.sync(rig.to_device)
    assert rig.call(1)[0] == "TIMEOUT"


def test_older_drivers_abort(make_rig: Any) -> None:
    """On older drivers the watchdog ends a run as ABORT."""
    rig = make_rig(Simulator("old-driver"))
    assert rig.call(1, rig.make_run(a0=2))[0] == "ABORT"


def test_fewer_buffers_are_fine(sim: Simulator, make_rig: Any) -> None:
    """A kernel of eight arguments runs with two buffers set; a gap between them does not."""
    rig = make_rig(sim)
    assert rig.call(1)[0] == "COMPLETED"
    run = rig.x.run(rig.kernel)
    for index, value in ((0, 3), (1, rig.instructions), (2, rig.code.nbytes), (4, rig.output)):
        run.set_arg(index, value)
    assert rig.call(1, run)[0] == "TIMEOUT"


def test_buffer_beyond_the_last_argument(rig: Any) -> None:
    """A buffer for an argument that does not exist crashes the process; a number is an IndexError."""
    with pytest.raises(IndexError):
        rig.run.set_arg(8, 1)
    with pytest.raises(SimulatedCrash, match=r"set_arg\(8, bo\) on kernel 'MLIR_AIE' of 8 arguments"):
        rig.run.set_arg(8, rig.input)


def test_a_crash_is_final(rig: Any, sim: Simulator) -> None:
    """After a crash every further call crashes, and the reason is kept."""
    with pytest.raises(SimulatedCrash):
        rig.run.set_arg(8, rig.input)
    with pytest.raises(SimulatedCrash):
        rig.run.start()
    with pytest.raises(SimulatedCrash):
        rig.x.device(0)
    assert len(sim.crashes) == 1


def test_a_crash_is_no_exception() -> None:
    """`except Exception` does not hide a crash or a hang."""
    assert not issubclass(SimulatedCrash, Exception)
    assert not issubclass(SimulatedHang, Exception)


@pytest.mark.parametrize("value", [None, 1.5, "3", 1 << 31, -(1 << 31) - 1, np.zeros(1)])
def test_argument_types(rig: Any, value: object) -> None:
    """set_arg takes buffers and 32-bit integers only."""
    with pytest.raises(TypeError, match=r"set_arg\(\): incompatible function arguments"):
        rig.run.set_arg(0, value)


def test_numpy_integers(rig: Any) -> None:
    """numpy's integers are integers."""
    rig.run.set_arg(np.int64(0), np.uint32(3))
    assert rig.call(1)[0] == "COMPLETED"


@pytest.mark.parametrize("opcode", [None, 3.0, 1 << 40])
def test_a_direct_call_swallows_errors(rig: Any, opcode: object) -> None:
    """kernel(...) launches with the arguments that it could not set left out, without a word."""
    rig.fill(1)
    run = rig.kernel(opcode, rig.instructions, rig.code.nbytes, rig.input, rig.output)
    assert run.wait(10_000).name == "ERT_CMD_STATE_TIMEOUT"


def test_a_direct_call_swallows_the_scalar_bank(rig: Any) -> None:
    """The IndexError of a scalar's bank is swallowed too."""
    odd = rig.x.bo(rig.device, 64, rig.x.bo.host_only, rig.kernel.group_id(0))
    run = rig.kernel(3, rig.instructions, rig.code.nbytes, odd, rig.output)
    assert run.wait(10_000).name == "ERT_CMD_STATE_TIMEOUT"


def test_a_direct_call_returns_a_started_run(rig: Any) -> None:
    """kernel(...) returns a run that is under way."""
    rig.fill(1)
    run = rig.kernel(3, rig.instructions, rig.code.nbytes, rig.input, rig.output)
    assert run.state().name == "ERT_CMD_STATE_SUBMITTED"
    assert run.wait().name == "ERT_CMD_STATE_COMPLETED"


def test_a_direct_call_crashes_on_too_many_buffers(rig: Any) -> None:
    """Too many buffers crash in a direct call as well."""
    with pytest.raises(SimulatedCrash):
        rig.kernel(3, rig.instructions, rig.code.nbytes, *[rig.input] * 6)


def test_restart(rig: Any) -> None:
    """A run can be started again after its end, not while it runs."""
    rig.fill(1)
    rig.run.start()
    with pytest.raises(RuntimeError, match=r"^bad command state, can't launch$"):
        rig.run.start()
    rig.run.wait(100)
    assert set(rig.call(5)[1]) == {6}


def test_restart_needs_the_end_to_be_seen(rig: Any, sim: Simulator) -> None:
    """The host must have seen the end of a run, by wait or state, before it starts it again."""
    rig.fill(1)
    rig.run.start()
    sim.clock.wait_until(1.0)
    with pytest.raises(RuntimeError, match="bad command state"):
        rig.run.start()
    rig.run.state()
    rig.run.start()
    rig.run.wait()


def test_states_over_time(rig: Any) -> None:
    """A run is NEW, then SUBMITTED, or QUEUED behind another, then COMPLETED."""
    rig.fill(1)
    second = rig.make_run()
    assert second.state().name == "ERT_CMD_STATE_NEW"
    rig.run.start()
    second.start()
    assert rig.run.state().name == "ERT_CMD_STATE_SUBMITTED"
    assert second.state().name == "ERT_CMD_STATE_QUEUED"
    rig.run.wait()
    assert second.state().name == "ERT_CMD_STATE_SUBMITTED"
    second.wait()
    assert second.state().name == "ERT_CMD_STATE_COMPLETED"


def test_wait_returns_timeout(sim: Simulator, make_rig: Any) -> None:
    """wait(ms) returns TIMEOUT when the time is up, and the state is then not the end's."""
    rig = make_rig(sim, launch_us=3000.0)
    rig.fill(1)
    rig.run.start()
    assert rig.run.wait(1) is rig.x.ert_cmd_state.ERT_CMD_STATE_TIMEOUT
    assert rig.run.state() is rig.x.ert_cmd_state.ERT_CMD_STATE_SUBMITTED
    assert rig.run.wait(5) is rig.x.ert_cmd_state.ERT_CMD_STATE_COMPLETED


@pytest.mark.parametrize("limit", [(), (0,)])
def test_wait_without_limit(sim: Simulator, make_rig: Any, limit: tuple[int, ...]) -> None:
    """wait() and wait(0) wait for as long as it takes."""
    rig = make_rig(sim, launch_us=1.5e6)
    rig.run.start()
    assert rig.run.wait(*limit) is rig.x.ert_cmd_state.ERT_CMD_STATE_COMPLETED


@pytest.mark.parametrize("limit", [-1, 1.0, None, "1", 1 << 32])
def test_wait_types(rig: Any, limit: object) -> None:
    """wait takes an unsigned 32-bit integer."""
    with pytest.raises(TypeError, match=r"wait\(\): incompatible function arguments"):
        rig.run.wait(limit)


def test_wait_before_start(rig: Any) -> None:
    """Waiting for a run that was never started hangs; with a limit it times out."""
    assert rig.run.wait(1) is rig.x.ert_cmd_state.ERT_CMD_STATE_TIMEOUT
    for limit in ((), (0,)):
        with pytest.raises(SimulatedHang):
            rig.run.wait(*limit)


def test_wait2(rig: Any) -> None:
    """wait2 returns None, or raises with the name of the state; it takes no limit."""
    rig.fill(1)
    rig.run.start()
    assert rig.run.wait2() is None
    bad = rig.make_run(a0=9)
    bad.start()
    message = r"^Command failed to complete successfully \(ERT_CMD_STATE_TIMEOUT\)$"
    with pytest.raises(RuntimeError, match=message):
        bad.wait2()
    with pytest.raises(TypeError):
        bad.wait2(5)


def test_no_callbacks(rig: Any) -> None:
    """A Python function can't be given as a callback."""
    with pytest.raises(TypeError, match="add_callback"):
        rig.run.add_callback(rig.x.ert_cmd_state.ERT_CMD_STATE_COMPLETED, print)


def test_early_reading_sees_old_bytes(rig: Any) -> None:
    """Until a run has ended its output is not there, even with a sync."""
    rig.fill(1)
    rig.run.start()
    rig.output.sync(rig.from_device)
    assert set(rig.output.map()) == {0xC3}
    rig.run.wait()
    rig.output.sync(rig.from_device)
    assert set(rig.output.map()) == {2}


def test_destroying_an_unfinished_run(rig: Any, sim: Simulator) -> None:
    """Destroying an unfinished run aborts the later release, and does nothing in the earlier one."""
    run = rig.make_run()
    run.start()
    del run
    gc.collect()
    if sim.xrt == "2.20":
        assert sim.crashes == []
        assert rig.call(1)[0] == "COMPLETED"
    else:
        assert sim.crashes == ["abort: a run was destroyed before it had finished"]
        with pytest.raises(SimulatedCrash, match="abort"):
            rig.run.start()


def test_destroying_a_finished_run(rig: Any, sim: Simulator) -> None:
    """A run that has ended may be destroyed, seen or not."""
    for seen in (True, False):
        run = rig.make_run()
        run.start()
        if seen:
            run.wait()
        sim.clock.wait_until(sim.clock.now() + 1)
        del run
    assert sim.crashes == []


def test_a_kernel_that_raises(sim: Simulator, make_rig: Any) -> None:
    """A host function that raises ends its run as ERROR, and the exception can be looked at."""
    rig = make_rig(sim, function=lambda x, y: np.add(x, np.zeros(3, np.uint8), out=y))
    assert rig.call(1)[0] == "ERROR"
    [(program, error)] = sim.kernel_errors
    assert program == "rig"
    assert isinstance(error, ValueError)


def test_named_function(sim: Simulator, tmp_path: Path) -> None:
    """A program named package.module:function needs no registration."""
    path = sim.write_xclbin(tmp_path / "copy.xclbin", [KernelImage("numpy:copyto", outputs=(0,))])
    px = sim.module
    device = px.device(0)
    context = px.hw_context(device, device.register_xclbin(px.xclbin(str(path))))
    assert px.kernel(context, "MLIR_AIE").group_id(3) & 0xFFFF == 0
    assert sim.program("numpy:copyto") is np.copyto
