"""A manifest's kernel on the stand-in: what it computes, how it shares the device, and how it lets go."""

import gc
import itertools
import os
import threading
import time
import tracemalloc
from dataclasses import replace

import npus
import numpy as np
import pytest
from assay import BufferFlag, DeviceLost, DeviceUnavailable
from assay.devices.xrt.kernel import XrtKernel
from assay.testing import simxrt

LATE = ["watchdog", "abort", "no-response", "lost"]
"""Ends of a run that say that the device is in trouble."""


@pytest.fixture(params=simxrt.VERSIONS)
def rig(request, tmp_path):
    """A machine with each release of XRT; at the end nothing is left, and nothing that would have crashed."""
    made = npus.Rig(tmp_path, xrt=request.param, memory=None)
    yield made
    gc.collect()
    assert made.sim.crashes == []
    assert made.sim.races == []
    assert made.sim.live == simxrt.Live()


def test_right_for_every_size_and_parameter(rig):
    """Full blocks, smaller designs, and blocks smaller than any design."""
    with rig.kernel() as kernel:
        for size, factor in itertools.product((16, 4), (1.0, -2.5)):
            x = npus.rows(size, seed=size)
            assert npus.close_to(npus.run(kernel, x, factor), x, factor)


def test_two_blocks_in_flight(rig):
    """The next block is copied while one is computed, into buffers of its own."""
    with rig.kernel() as kernel:
        blocks = [npus.rows(16, seed=i) for i in range(7)]
        begun = []
        for x in blocks:
            begun.append((kernel.begin(x, factor=1.0), x))
            if len(begun) == 2:
                slot, given = begun.pop(0)
                assert npus.close_to(kernel.finish(slot, np.empty_like(given)), given)


def test_bytes_that_cross_unsynced_change_nothing(tmp_path):
    """Caches write back when they like; every sync is there all the same."""
    rig = npus.Rig(tmp_path, memory=None, leak=0.3)
    with rig.kernel() as kernel:
        for seed in range(20):
            x = npus.rows(16, seed=seed)
            assert npus.close_to(npus.run(kernel, x), x)


OUTPUTS = {
    "int8": ('dtype = "int8"\nquantisation = { scale = 0.5, zero_point = 3 }', 0.3),
    "float16": ('dtype = "float16"', 0.02),
    "float32": ('dtype = "float32"', 1e-3),
    "bfloat16": ('dtype = "bfloat16"', 0.3),
}


@pytest.mark.parametrize("dtype", OUTPUTS)
def test_outputs_of_every_dtype(tmp_path, dtype):
    """Codes with a fixed scale, and real values of half and single precision."""
    rig = npus.Rig(tmp_path)
    npus.write_manifest(rig.batch.parent, outputs=(2,))

    def program(codes, scales, result):
        x = codes.view(np.int16).reshape(-1, 32) * scales.view(np.float32)[:, None]
        real = x[:, ::-1].astype(np.float32)
        if dtype == "int8":
            raw = np.clip(np.rint(real / 0.5) + 3, -128, 127).astype(np.int8)
        elif dtype == "bfloat16":
            raw = (real.view(np.uint32) >> 16).astype(np.uint16)
        else:
            raw = real.astype(dtype)
        result[:] = raw.view(np.uint8).ravel()

    rig.sim.register("flip", program)
    text, limit = OUTPUTS[dtype]
    changed = rig.batch.read_text().replace(
        'dtype = "int16"\nitem_shape = [32]\nquantisation = { scale = 1e-3 }', f"item_shape = [32]\n{text}"
    )
    rig.batch.write_text(changed.replace('name = "result"\nargument = 6', 'name = "x"\nargument = 6'))
    at = changed.index('[[buffers]]\nrole = "scale"\nname = "result"')
    rig.batch.write_text(changed[:at])
    with rig.kernel() as kernel:
        x = (10 * np.random.default_rng(0).standard_normal((16, 32))).astype(np.float32)
        assert np.abs(npus.run(kernel, x) - npus.expect(x)).max() < limit


def test_tails_without_a_context_of_their_own(tmp_path):
    """Where the device has one context left, a smaller block goes through the larger design."""
    profile = replace(simxrt.PROFILES["phoenix"], context_limit=1)
    rig = npus.Rig(tmp_path, profile=profile)
    with rig.kernel(16) as kernel:
        for _ in range(3):
            x = npus.rows(4)
            assert npus.close_to(npus.run(kernel, x), x)
        assert rig.sim.live.contexts == 1
        assert set(kernel.opened) == {16}
        # A proof is about the design of that very size, and gets it.
        x = npus.rows(4, seed=2)
        assert npus.close_to(kernel(x, out=np.empty_like(x), factor=1.0), x)
        assert set(kernel.opened) == {4}
        x = npus.rows(16)
        assert npus.close_to(npus.run(kernel, x), x)


def test_no_context_at_all(tmp_path):
    """The reason says how many this process holds, and what to do."""
    profile = replace(simxrt.PROFILES["phoenix"], context_limit=1)
    for number in (28, 22, 2):
        rig = npus.Rig(tmp_path / str(number), profile=replace(profile, context_errno=number))
        with rig.kernel() as kernel:
            with pytest.raises(
                DeviceUnavailable, match=r"this process holds 1 of the NPU's contexts"
            ) as caught:
                XrtKernel(npus.manifest(rig.single), *_terms(kernel, 1))
            assert caught.value.code == "device_busy"
            assert "fuser" in caught.value.remedy
            del caught
            gc.collect()
        assert rig.sim.live == simxrt.Live()


def _terms(kernel, size):
    """The device and plan of a kernel, for blocks of so many rows."""
    from assay import Device

    device = Device("xrt", "NPU", handle=kernel.session)
    return device, npus.plan(device, size)


def test_a_context_is_shared(rig):
    """Two kernels in one xclbin have one context, which lives as long as one of them."""
    with rig.kernel() as first:
        second = XrtKernel(npus.manifest(rig.batch), *_terms(first, 16))
        assert rig.sim.live.contexts == 1
        first.close()
        assert rig.sim.live.contexts == 1
        x = npus.rows(16)
        assert npus.close_to(npus.run(second, x), x)
        second.close()
        assert rig.sim.live.contexts == 0


def test_the_order_of_destruction(rig):
    """Runs, buffers, kernels, contexts, the device: XRT survives no other."""
    with rig.kernel() as kernel:
        npus.run(kernel, npus.rows(16))
        rig.sim.tally.destroyed.clear()
    order = [kind for kind, _ in itertools.groupby(rig.sim.tally.destroyed)]
    assert order == ["runs", "buffers", "runs", "buffers", "kernels", "contexts", "devices"]


@pytest.mark.parametrize("step", ["context", "kernel", "allocate", "map", "register"])
@pytest.mark.parametrize("after", range(6))
def test_a_failure_while_opening_leaves_nothing(rig, step, after):
    """Whatever had been opened before is given back."""
    message = "something (err=-5): Input/output error"
    with rig.device() as device:
        fault = rig.sim.inject(simxrt.Fault(step, "fail", after=after, message=message))
        try:
            XrtKernel(npus.manifest(rig.batch), device, npus.plan(device, 16)).close()
        except Exception as error:  # noqa: BLE001  # which one depends on the step
            said = str(error)
            del error
        else:
            said = "" if fault.hits else message
        assert message in said
        gc.collect()
        assert rig.sim.live == simxrt.Live(devices=1)


@pytest.mark.parametrize("kind", ["unwritten", "slot"])
def test_an_item_that_was_not_written(rig, kind):
    """COMPLETED proves nothing: what the host put there beforehand is still there."""
    with rig.kernel() as kernel:
        npus.run(kernel, npus.rows(16))
        rig.sim.inject(simxrt.Fault("run", kind, slot=9))
        with pytest.raises(
            RuntimeError, match=r"COMPLETED, but \d+ of 16 items were never written, or not whole"
        ):
            npus.run(kernel, npus.rows(16))
        rig.sim.clear_faults()
        x = npus.rows(16, seed=3)
        assert npus.close_to(npus.run(kernel, x), x)


def test_half_an_item_that_was_not_written(tmp_path):
    """A row that was written to its middle shows at its end."""
    rig = npus.Rig(tmp_path)

    def half(codes, scales, result, result_scales):
        npus.on_device(codes, scales, before := result.copy(), result_scales)
        result.reshape(-1, 64)[:, :40] = before.reshape(-1, 64)[:, :40]

    rig.sim.register("flip", half)
    with (
        rig.kernel() as kernel,
        pytest.raises(RuntimeError, match="16 of 16 items were never written, or not whole"),
    ):
        npus.run(kernel, npus.rows(16))


def test_zeros_are_described(rig):
    """Whoever finds a result wrong can say that the device gave nothing but zeros."""
    with rig.kernel() as kernel:
        npus.run(kernel, npus.rows(16))
        assert kernel.describe() == ""
        rig.sim.inject(simxrt.Fault("run", "zeros"))
        npus.run(kernel, npus.rows(16))
        assert kernel.describe() == "the device gave nothing but zeros"


def test_an_error_of_the_kernel(rig):
    """State ERROR is the kernel's own fault: the device is not lost, and the next run is right."""
    with rig.kernel() as kernel:
        rig.sim.inject(simxrt.Fault("run", "error"))
        with pytest.raises(RuntimeError, match="ended in state ERROR, not COMPLETED"):
            npus.run(kernel, npus.rows(16))
        x = npus.rows(16)
        assert npus.close_to(npus.run(kernel, x), x)
        assert kernel.life == 1


@pytest.mark.parametrize("kind", LATE)
def test_a_device_in_trouble(rig, kind):
    """The device counts as lost; once it is back, the same kernel opens it anew and is right."""
    with rig.kernel() as kernel:
        rig.sim.inject(simxrt.Fault("run", kind))
        with pytest.raises(DeviceLost):
            npus.run(kernel, npus.rows(16))
        rig.sim.clear_faults()
        if kind == "lost":
            with pytest.raises(DeviceLost, match="No such device"):
                npus.run(kernel, npus.rows(16))
            rig.sim.return_device()
        x = npus.rows(16)
        assert npus.close_to(npus.run(kernel, x), x)
        assert kernel.life == 2
        assert rig.sim.live.devices == 1


def test_the_older_drivers_word_for_the_watchdog(tmp_path):
    """They say ABORT where newer ones say TIMEOUT."""
    rig = npus.Rig(tmp_path, profile="old-driver")
    with rig.kernel() as kernel:
        rig.sim.inject(simxrt.Fault("run", "watchdog"))
        with pytest.raises(DeviceLost, match="state ABORT"):
            npus.run(kernel, npus.rows(16))


def test_another_kernel_after_a_loss(rig):
    """Each kernel lets its own handles go when its turn comes; nobody destroys another one's."""
    with rig.kernel() as first:
        second = XrtKernel(npus.manifest(rig.single), *_terms(first, 1))
        npus.run(second, npus.rows(1))
        rig.sim.inject(simxrt.Fault("run", "watchdog"))
        with pytest.raises(DeviceLost):
            npus.run(first, npus.rows(16))
        for kernel, size in ((second, 1), (first, 16), (second, 1)):
            x = npus.rows(size)
            assert npus.close_to(npus.run(kernel, x), x)
        assert (first.life, second.life) == (2, 2)
        second.close()


def test_a_run_that_ends_between_a_poll_and_the_look_at_its_state(rig):
    """``wait`` may say that its time is up just before the run completes: that is no TIMEOUT of its own."""
    with rig.kernel() as kernel:
        slot = kernel.begin(npus.rows(16), factor=1.0)
        real, states = slot.run.handle, rig.sim.module.ert_cmd_state

        class Late:
            def wait(self, ms):
                real.wait(ms)
                return states.ERT_CMD_STATE_TIMEOUT

            def state(self):
                return real.state()

            def start(self):
                real.start()

        slot.run.handle = Late()
        assert npus.close_to(kernel.finish(slot, np.empty((16, 32), np.float32)), npus.rows(16))
        slot.run.handle = real


def test_a_block_that_was_given_up(rig):
    """One that was begun and not finished is waited for before its buffers are used again."""
    with rig.kernel() as kernel:
        for seed in range(5):
            kernel.begin(npus.rows(16, seed=9), factor=1.0)
            x = npus.rows(16, seed=seed)
            assert npus.close_to(npus.run(kernel, x), x)


class TestHanging:
    """A run that never ends: destroying it would end the process on XRT 2.23 and later."""

    @pytest.fixture(params=simxrt.VERSIONS)
    def rig(self, request, tmp_path):
        """A machine whose clock is real."""
        made = npus.Rig(tmp_path, xrt=request.param, clock="spin")
        npus.write_manifest(made.batch.parent, watchdog_s=0.2)
        yield made
        gc.collect()
        assert made.sim.crashes == []
        assert made.sim.races == []

    def test_it_is_given_up_in_time_and_never_destroyed(self, rig):
        """The device counts as lost, and is opened anew; closing does not wait for the run again."""
        with rig.kernel() as kernel:
            rig.sim.inject(simxrt.Fault("run", "hang"))
            start = time.perf_counter()
            with pytest.raises(DeviceLost, match=r"did not end within 0.2 s"):
                npus.run(kernel, npus.rows(16))
            assert 0.2 <= time.perf_counter() - start < 0.25 + 0.2
            x = npus.rows(16)
            start = time.perf_counter()
            assert npus.close_to(npus.run(kernel, x), x)
            assert time.perf_counter() - start < 0.2
        assert rig.sim.live.runs == 1  # kept for ever, with all that it uses

    def test_other_threads_live(self, rig):
        """pyxrt holds the GIL while it waits; between short polls everybody else gets it."""
        counted = 0
        stop = threading.Event()

        def count():
            nonlocal counted
            while not stop.is_set():
                counted += 1
                time.sleep(0.001)

        with rig.kernel() as kernel:
            rig.sim.inject(simxrt.Fault("run", "hang"))
            thread = threading.Thread(target=count)
            thread.start()
            with pytest.raises(DeviceLost):
                npus.run(kernel, npus.rows(16))
            stop.set()
            thread.join()
        assert counted > 40

    def test_closing_from_another_thread(self, rig):
        """Nothing is taken away from under a thread that waits for the device."""
        rig.sim.inject(simxrt.Fault("run", "slow", seconds=0.1))
        with rig.kernel() as kernel:
            caught = []

            def work():
                try:
                    slot = kernel.begin(npus.rows(16), factor=1.0)
                    caught.append(kernel.finish(slot, np.empty((16, 32), np.float32)))
                    while True:
                        npus.run(kernel, npus.rows(16))
                except (RuntimeError, DeviceLost) as error:
                    caught.append(error)

            thread = threading.Thread(target=work)
            thread.start()
            time.sleep(0.03)
            kernel.close()
            thread.join(5)
            assert not thread.is_alive()
            assert "closed" in str(caught[-1])
        assert rig.sim.live == simxrt.Live()


def test_closing_twice(rig):
    """And a closed kernel says so."""
    with rig.kernel() as kernel:
        kernel.close()
        kernel.close()
        with pytest.raises(RuntimeError, match="xrt-batch is closed"):
            npus.run(kernel, npus.rows(16))


def test_nothing_is_allocated_after_warm_up(tmp_path):
    """Blocks go through buffers that are there; views and numbers are all that Python makes."""
    rig = npus.Rig(tmp_path)
    rig.sim.register("flip", lambda codes, scales, result, result_scales: result.fill(1))
    npus.write_manifest(rig.batch.parent, sizes=(1024,))
    with rig.kernel(1024) as kernel:
        x, out = npus.rows(1024), np.empty((1024, 32), np.float32)  # 131 kB each
        slot = kernel.begin(x, factor=1.0)
        kernel.finish(slot, out)
        # What the stand-in itself allocates does not count.
        slot.data.to_device = lambda: slot.bytes.fill(1)
        slot.run.start = slot.run.wait = lambda *given: None
        for region in slot.results:
            region.from_device = lambda: None

        def block():
            slot.begin((x,), {"factor": 1.0})
            slot.finish(out)

        block()
        tracemalloc.start()
        try:
            block()
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(10):
                block()
            now, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert (now - before, peak - before) < (500, 4000)
        assert peak - before < 12_000  # the iterators of NumPy, however large a block is


def test_cacheable_instructions_and_other_data(rig):
    """Instructions are cacheable; data is of the negotiated kind."""
    with rig.kernel() as kernel:
        opened = kernel.opened[16]
        (code,) = opened.code.roots.values()
        assert code.region.memory.cacheable
        assert not any(
            root.region.memory.cacheable for slot in opened.slots for root in slot.data.roots.values()
        )


def test_data_buffers_of_a_kind_that_the_device_ignores(rig):
    """Cacheable data allocates and is never written; the message knows."""
    with rig.device() as device:
        kernel = XrtKernel(npus.manifest(rig.batch), device, npus.plan(device, 16, BufferFlag.CACHEABLE))
        with pytest.raises(RuntimeError, match="cacheable data is known to be ignored"):
            npus.run(kernel, npus.rows(16))
        kernel.close()


def test_memory_runs_out(rig):
    """It is the load's fault, not the kernel's."""
    with rig.device() as device:
        rig.sim.inject(simxrt.Fault("allocate", "fail"))
        with pytest.raises(MemoryError, match="Cannot allocate memory"):
            XrtKernel(npus.manifest(rig.batch), device, npus.plan(device, 16))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_after_fork_touches_nothing_of_its_parents(rig):
    """At its end it destroys no handle of the parent's, whose contexts that would end."""
    read, write = os.pipe()
    with rig.kernel() as kernel:
        npus.run(kernel, npus.rows(16))
        before = rig.sim.live
        child = os.fork()
        if child == 0:
            try:
                from assay.devices.xrt import session

                session._close_all()
                kernel = None
                gc.collect()
                os.write(write, b"kept" if rig.sim.live == before else b"lost")
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert os.read(read, 10) == b"kept"
    os.close(read)
    os.close(write)
