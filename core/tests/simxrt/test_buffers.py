"""Buffers: two sides, flags, banks, parts, strides."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from assay.testing.simxrt import Simulator


def test_only_two_flags_allocate(sim: Simulator, rig: Any) -> None:
    """host_only and cacheable allocate; the rest is refused in the release's own words."""
    bo = rig.x.bo
    old = r"^Bad BO flags \(err=95\): Operation not supported$"
    bad = old if sim.xrt == "2.20" else r"^Bad BO type\. \(err=22\): Invalid argument$"
    normal = r"^unsupported buffer type: none flag \(err=95\): Operation not supported$"
    for flags, message in ((bo.normal, normal), (bo.device_only, bad), (bo.p2p, bad), (bo.svm, bad)):
        with pytest.raises(RuntimeError, match=message):
            rig.buffer(flags, 3)
    assert rig.buffer(bo.host_only, 3).size() == rig.buffer(bo.cacheable, 3).size() == 64


def test_from_a_context(sim: Simulator, rig: Any) -> None:
    """A buffer can be made in a context; without flags, in the later release, they are normal and refused."""
    assert rig.x.bo(rig.context, 8, rig.x.bo.host_only, 0).size() == 8
    error = TypeError if sim.xrt == "2.20" else RuntimeError
    with pytest.raises(error):
        rig.x.bo(rig.context, 8, 0)


@pytest.mark.parametrize("size", [-1, 1.5, None, "8"])
def test_size_type(rig: Any, size: object) -> None:
    """A size that is no unsigned integer is a TypeError."""
    with pytest.raises(TypeError, match="incompatible constructor arguments"):
        rig.x.bo(rig.device, size, rig.x.bo.host_only, 0)


def test_nothing_reaches_the_device_without_sync(rig: Any) -> None:
    """Without a sync to the device the kernel sees the bytes of before."""
    rig.call(1)
    rig.input.write(np.full(64, 50, np.uint8), 0)
    rig.run.start()
    rig.run.wait(100)
    rig.output.sync(rig.from_device)
    assert set(rig.output.map()) == {2}


def test_nothing_reaches_the_host_without_sync(rig: Any) -> None:
    """Without a sync from the device the host sees the bytes of before."""
    rig.fill(1)
    rig.run.start()
    rig.run.wait(100)
    assert set(rig.output.map()) == {0xC3}
    assert set(rig.output.read(64, 0).view(np.uint8)) == {0xC3}


def test_a_leaking_cache(make_rig: Any) -> None:
    """With leak=1 a missing sync goes unnoticed, as it may on hardware."""
    rig = make_rig(Simulator(leak=1.0))
    rig.input.write(np.full(64, 7, np.uint8), 0)
    rig.run.start()
    rig.run.wait(100)
    assert set(rig.output.map()) == {8}


def test_new_memory(make_rig: Any) -> None:
    """New memory holds a pattern, or random bytes on request, and is page-aligned."""
    for memory, distinct in ((0x11, {0x11}), (None, None)):
        rig = make_rig(Simulator(memory=memory))
        bo = rig.buffer(rig.x.bo.host_only, 3, 4096)
        view = np.asarray(bo.map())
        assert view.ctypes.data % 4096 == 0
        values = set(view.tolist())
        assert values == distinct if distinct else len(values) > 200


def test_cacheable_data_is_untouched(rig: Any) -> None:
    """With data in a cacheable buffer the run completes and writes nothing."""
    rig.output = rig.buffer(rig.x.bo.cacheable, 4)
    state, output = rig.call(1, rig.make_run())
    assert state == "COMPLETED"
    assert set(output) == {0xC3}


@pytest.mark.parametrize("argument", [3, 4])
def test_wrong_bank(rig: Any, argument: int, capfd: pytest.CaptureFixture[str]) -> None:
    """A buffer in another bank is replaced by a private copy, with a warning on stderr."""
    wrong = rig.x.bo(rig.device, 64, rig.x.bo.host_only, 5)
    if argument == 4:
        rig.output = wrong
    else:
        wrong.write(bytes(64), 0)
        wrong.sync(rig.to_device)
        rig.input = wrong
    run = rig.make_run()
    assert "WARNING" in capfd.readouterr().err
    state, output = rig.call(1, run)
    assert state == "COMPLETED"
    assert set(output) == {0xC3 if argument == 4 else 1}  # the input was 0 when the copy was made


def test_scalar_bank(rig: Any) -> None:
    """A buffer in the bank of a scalar is an IndexError in set_arg."""
    odd = rig.x.bo(rig.device, 64, rig.x.bo.host_only, rig.kernel.group_id(0))
    with pytest.raises(IndexError):
        rig.run.set_arg(3, odd)
    with pytest.raises(IndexError):
        rig.run.set_arg(0, rig.input)


def test_bounds(rig: Any) -> None:
    """Writing, reading and syncing past the end are errors in XRT's words."""
    bo = rig.input
    with pytest.raises(RuntimeError, match=r"^attempting to write past buffer size: Invalid argument$"):
        bo.write(bytes(64), 1)
    with pytest.raises(RuntimeError, match=r"^attempting to read past buffer size: Invalid argument$"):
        bo.read(64, 1)
    with pytest.raises(RuntimeError, match=r"sync'ing: 1, 64 \(err=22\): Invalid argument$"):
        bo.sync(rig.to_device, 64, 1)


def test_read_gives_int8(rig: Any) -> None:
    """read gives a new int8 array."""
    rig.input.write(np.array([0, 127, 128, 255], np.uint8), 0)
    data = rig.input.read(4, 0)
    assert data.dtype == np.int8
    assert data.tolist() == [0, 127, -128, -1]


def test_positional_only(rig: Any) -> None:
    """Nothing takes keywords, and write and read need both arguments."""
    calls: list[Callable[[], Any]] = [
        lambda: rig.input.write(data=b"a", seek=0),
        lambda: rig.input.write(b"a"),
        lambda: rig.input.read(1),
        lambda: rig.input.sync(direction=rig.to_device),
        lambda: rig.run.wait(timeout_ms=1),
        lambda: rig.kernel.group_id(index=1),
        lambda: rig.kernel(opcode=3),
        lambda: rig.x.device(index=0),
        lambda: rig.x.bo(device=rig.device, size=8, flags=rig.x.bo.host_only, group=0),
    ]
    for call in calls:
        with pytest.raises(TypeError):
            call()


def test_write_takes_buffers_only(rig: Any) -> None:
    """A list is no buffer."""
    with pytest.raises(TypeError, match=r"write\(\): incompatible function arguments"):
        rig.input.write([1, 2], 0)


@pytest.mark.parametrize(
    "data", [b"\1\2\3", bytearray(b"\1\2\3"), memoryview(b"\1\2\3"), np.array([1, 2, 3], np.uint8)]
)
def test_write_sources(rig: Any, data: Any) -> None:
    """Anything with a buffer is written at the given byte."""
    rig.input.write(bytes(64), 0)
    rig.input.write(data, 2)
    assert rig.input.read(6, 0).tolist() == [0, 0, 1, 2, 3, 0]


def test_write_ignores_strides(rig: Any) -> None:
    """A strided array is written as if it were contiguous: the wrong bytes, and no error."""
    a = np.arange(32, dtype=np.uint8)
    rig.input.write(a[::2], 0)
    assert rig.input.read(16, 0).tolist() == list(range(16))
    matrix = np.arange(12, dtype=np.uint8).reshape(3, 4)
    rig.input.write(matrix.T, 0)
    assert rig.input.read(12, 0).tolist() == list(range(12))


def test_write_of_a_reversed_array(rig: Any) -> None:
    """A reversed array is read from its last byte on, into memory that is not the caller's."""
    rig.input.write(np.arange(8, dtype=np.uint8)[::-1], 0)
    data = rig.input.read(8, 0).tolist()
    assert data[0] == 7
    assert data[1:] != list(range(6, -1, -1))


def test_sync_direction_type(rig: Any) -> None:
    """An integer is no direction, and a size needs an offset."""
    with pytest.raises(TypeError, match=r"sync\(\): incompatible function arguments"):
        rig.input.sync(0)
    with pytest.raises(TypeError, match=r"sync\(\): incompatible function arguments"):
        rig.input.sync(rig.to_device, 8)


def test_partial_sync(rig: Any) -> None:
    """sync(direction, size, offset) moves these bytes only."""
    rig.fill(1)
    rig.input.write(np.full(64, 9, np.uint8), 0)
    rig.input.sync(rig.to_device, 16, 8)
    rig.input.sync(rig.from_device)
    assert rig.input.read(64, 0).tolist() == [1] * 8 + [9] * 16 + [1] * 40


def test_map_is_the_host_side(rig: Any) -> None:
    """map gives a writable view of bytes, of the host's side."""
    view = rig.input.map()
    assert (view.format, view.ndim, view.readonly, view.nbytes) == ("B", 1, False, 64)
    view[3] = 77
    assert rig.input.read(1, 3)[0] == 77


def test_map_does_not_keep_alive(rig: Any, sim: Simulator) -> None:
    """A view outlives its buffer, and then shows garbage."""
    bo = rig.buffer(rig.x.bo.host_only, 3)
    view = bo.map()
    bo.write(bytes(64), 0)
    before = sim.live.buffers
    del bo
    assert sim.live.buffers == before - 1
    assert set(view) == {0xDB}


def test_part(rig: Any) -> None:
    """A part of a buffer shares its memory on both sides, and its address."""
    parent = rig.buffer(rig.x.bo.host_only, 3, 256)
    part = rig.x.bo(parent, 64, 128)
    assert part.address() == parent.address() + 128
    part.write(np.full(64, 4, np.uint8), 0)
    part.sync(rig.to_device)
    assert parent.read(256, 0).view(np.uint8).tolist() == [0xA5] * 128 + [4] * 64 + [0xA5] * 64
    run = rig.make_run(a3=part)
    rig.output.write(bytes(64), 0)
    rig.output.sync(rig.to_device)
    run.start()
    run.wait(100)
    rig.output.sync(rig.from_device)
    assert set(rig.output.map()) == {5}


def test_part_keeps_its_parent(rig: Any) -> None:
    """A part keeps the whole buffer alive."""
    parent = rig.buffer(rig.x.bo.host_only, 3, 256)
    part = rig.x.bo(parent, 64, 128)
    del parent
    part.write(bytes(64), 0)
    assert set(part.read(64, 0)) == {0}


def test_part_bounds(rig: Any) -> None:
    """A part must fit, and so must its syncs."""
    with pytest.raises(RuntimeError, match=r"^sub buffer size and offset: Invalid argument$"):
        rig.x.bo(rig.input, 64, 1)
    part = rig.x.bo(rig.input, 32, 32)
    with pytest.raises(RuntimeError, match=r"^Invalid offset and size when syncing sub buffer: Invalid arg"):
        part.sync(rig.to_device, 32, 1)


def test_part_of_a_part(rig: Any) -> None:
    """In a part of a part the host's offsets add up and the device's do not: the kernel reads elsewhere."""
    root = rig.buffer(rig.x.bo.host_only, 3, 512)
    root.write(np.repeat(np.arange(8, dtype=np.uint8), 64), 0)
    root.sync(rig.to_device)
    inner = rig.x.bo(rig.x.bo(root, 256, 256), 64, 128)
    assert set(inner.read(64, 0)) == {6}  # host: 256 + 128
    assert inner.address() == root.address() + 128  # device: 128 only
    rig.input = inner
    run = rig.make_run()
    run.start()
    run.wait(100)
    rig.output.sync(rig.from_device)
    assert set(rig.output.map()) == {3}
