"""Wrong kernels for gelu, each of which the gate must reject, and right ones in odd styles."""

# ruff: noqa: B006, B008 -- what outlives a call, in defaults here, is what many of these kernels are about

from __future__ import annotations

import functools
import math
import queue
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import assay
import numpy as np
from assay.testing import Specimens
from scipy import special

SPECIMENS = Specimens("gelu")
wrong, right = SPECIMENS.wrong, SPECIMENS.right


def gelu(x: Any, approximate: str = "none") -> Any:
    """GELU done right: in float64, rounded once."""
    x64 = np.asarray(x, np.float64)
    if approximate == "tanh":
        with np.errstate(over="ignore"):
            y = x64 / (1 + np.exp(-2 * math.sqrt(2 / math.pi) * (x64 + 0.044715 * x64**3)))
    else:
        y = x64 * special.ndtr(x64)
    return np.asarray(y, np.asarray(x).dtype)


# --- wrong: the mathematics


@wrong()
def ignores_approximate(x, *, approximate):
    return gelu(x, "none")


@wrong()
def always_tanh(x, *, approximate):
    return gelu(x, "tanh")


@wrong()
def sigmoid_form(x, *, approximate):
    return (x * special.expit(1.702 * x.astype(np.float64))).astype(x.dtype)


@wrong()
def relu(x, *, approximate):
    return np.maximum(x, 0)


@wrong()
def zeros(x, *, approximate):
    return np.zeros_like(x)


@wrong()
def constant(x, *, approximate):
    return np.full_like(x, 0.5)


@wrong()
def half_inside(x, *, approximate):
    with np.errstate(over="ignore", invalid="ignore"):
        return gelu(x.astype(np.float16), approximate).astype(np.float32)


@wrong()
def int8_codes(x, *, approximate):
    return np.clip(np.round(gelu(x, approximate) / 0.05), -128, 127).astype(np.float32)


@wrong()
def int8_inside(x, *, approximate):
    return (np.clip(np.round(gelu(x, approximate) / 0.05), -128, 127) * 0.05).astype(np.float32)


@wrong(accuracy="approximate")
def saturated(x, *, approximate):
    return gelu(np.clip(x, -4, 4), approximate)


@wrong()
def nan_for_large_negative(x, *, approximate):
    y = gelu(x, approximate)
    return np.where(x < -50, np.float32("nan"), y)


@wrong()
def noisy(x, *, approximate, _rng=np.random.default_rng()):
    return gelu(x, approximate) + (1e-2 * _rng.standard_normal(x.shape)).astype(x.dtype)


@wrong()
def one_spike(x, *, approximate, _rng=np.random.default_rng()):
    y = gelu(x, approximate)
    if y.size > 4 and _rng.random() < 0.1:
        y.flat[int(_rng.integers(y.size))] += 1e-2
    return y


@wrong(dtypes={"float32", "float64"})
def float64_in_float32(x, *, approximate):
    return gelu(x.astype(np.float32), approximate).astype(x.dtype)


@wrong(dtypes={"float32", "float16"})
def wrong_for_float16(x, *, approximate):
    return gelu(x, approximate) if x.dtype == np.float32 else gelu(x, "tanh") * np.float16(0.9)


@wrong(params={"approximate": {"none", "tanh"}})
def wrong_for_tanh(x, *, approximate):
    return gelu(x) if approximate == "none" else gelu(x) * np.float32(0.999)


# --- wrong: sizes


@wrong()
def right_for_multiples_of_16(x, *, approximate):
    y = gelu(x, approximate)
    flat = y.reshape(-1)
    flat[flat.size // 16 * 16 :] = 0
    return y


@wrong()
def unwritten_tail(x, *, approximate):
    y = np.empty_like(x)
    n = x.size // 8 * 8
    y.reshape(-1)[:n] = gelu(x.reshape(-1)[:n], approximate)
    return y


@wrong(writes_out=True)
def unwritten_tail_of_out(x, *, approximate, out):
    n = x.size // 4 * 4
    out.reshape(-1)[:n] = gelu(x.reshape(-1)[:n], approximate)
    return out


@wrong(writes_out=True)
def adds_to_out(x, *, approximate, out):
    out += gelu(x, approximate)
    return out


@wrong()
def wrong_when_large(x, *, approximate):
    y = gelu(x, approximate)
    if x.size > 30_000:
        y.reshape(-1)[-1] = 0.5
    return y


@wrong()
def wrong_when_very_large(x, *, approximate):
    y = gelu(x, approximate)
    if x.size > 200_000:
        y.reshape(-1)[200_000:] = 0
    return y


@wrong()
def only_even_sizes(x, *, approximate):
    y = gelu(x, approximate)
    return y if x.size % 2 == 0 else -y


@wrong()
def flattens(x, *, approximate):
    return gelu(x, approximate).reshape(-1)


@wrong()
def widens(x, *, approximate):
    return gelu(x, approximate).astype(np.float64)


@wrong()
def matrix_subclass(x, *, approximate):
    return np.matrix(gelu(x, approximate)) if x.ndim == 2 else gelu(x, approximate)


@wrong()
def returns_list(x, *, approximate):
    return gelu(x, approximate).tolist()


@wrong()
def returns_none(x, *, approximate):
    gelu(x, approximate)


@wrong()
def big_endian(x, *, approximate):
    return gelu(x, approximate).astype(">f4")


# --- wrong: state


@wrong()
def stale_buffer(x, *, approximate, _kept={}):
    y = _kept.setdefault(x.shape, np.empty_like(x))
    y[...] = gelu(x, approximate)
    return y


@wrong()
def ring_of_two_buffers(x, *, approximate, _kept={}):
    ring = _kept.setdefault(x.shape, [np.empty_like(x), np.empty_like(x)])
    ring.append(ring.pop(0))
    ring[0][...] = gelu(x, approximate)
    return ring[0]


@wrong()
def ring_of_seven_buffers(x, *, approximate, _kept={}):
    ring = _kept.setdefault(x.shape, [np.empty_like(x) for _ in range(7)])
    ring.append(ring.pop(0))
    ring[0][...] = gelu(x, approximate)
    return ring[0]


@wrong()
def late_by_one(x, *, approximate, _kept={}):
    now = gelu(x, approximate)
    before = _kept.get(x.shape, now)
    _kept[x.shape] = now
    return before.copy()


@wrong()
def right_first_time_only(x, *, approximate, _kept={}):
    if x.shape in _kept:
        return _kept[x.shape].copy()
    _kept[x.shape] = gelu(x, approximate)
    return _kept[x.shape].copy()


@wrong()
def cached_by_identity(x, *, approximate, _kept={}):
    key = (x.__array_interface__["data"][0], x.shape, approximate)
    if key not in _kept:
        _kept[key] = gelu(x, approximate)
    return _kept[key].copy()


@wrong()
def cached_by_first_element(x, *, approximate, _kept={}):
    if not x.size:
        return x.copy()
    key = (float(x.flat[0]), x.shape, approximate)
    if key not in _kept:
        _kept[key] = gelu(x, approximate)
    return _kept[key].copy() if x.flat[0] == 0 else _kept[key]


def _every(count):
    def kernel(x, *, approximate, _calls=[0]):
        _calls[0] += 1
        y = gelu(x, approximate)
        return y * np.float32(1.01) if _calls[0] % count == 0 else y

    kernel.__name__ = f"every_{count}th_call_wrong"
    return kernel


for _count in (3, 10, 64, 150):
    wrong()(_every(_count))


@wrong()
def cached_result_shared(x, *, approximate, _kept={}):
    key = (x.tobytes(), x.shape, approximate)
    if key not in _kept:
        _kept[key] = gelu(x, approximate)
    return _kept[key]


@wrong()
def shared_scratch(x, *, approximate, _kept={}):
    scratch = _kept.setdefault(x.size, np.empty((2, x.size), np.float64))
    flat = x.reshape(-1)
    scratch[0] = flat
    np.multiply(scratch[0], math.sqrt(0.5), out=scratch[1])
    if approximate == "tanh":
        return gelu(scratch[0].astype(x.dtype), "tanh").reshape(x.shape)
    special.erf(scratch[1], out=scratch[1])
    np.add(scratch[1], 1, out=scratch[1])
    np.multiply(scratch[1], scratch[0], out=scratch[1])
    y = np.maximum(0.5 * scratch[1], gelu(scratch[0], "none")).astype(x.dtype)
    return y.reshape(x.shape)


@wrong()
def only_in_main_thread(x, *, approximate):
    y = gelu(x, approximate)
    return y if threading.current_thread() is threading.main_thread() else y * 0


@wrong(opener=True)
def bound_to_its_thread(device, plan):
    owner = threading.get_ident()

    def kernel(x, *, approximate):
        if threading.get_ident() != owner:
            raise RuntimeError("used in another thread than the one that opened it")
        return gelu(x, approximate)

    return kernel


@wrong(opener=True, thread_safe=True)
def not_so_thread_safe(device, plan):
    scratch = {}

    def kernel(x, *, approximate):
        y = scratch.setdefault(x.size, np.empty(x.size))
        y[:] = gelu(x, approximate).reshape(-1)
        return y.astype(x.dtype).reshape(x.shape)

    return kernel


# --- wrong: what is not theirs


@wrong()
def writes_to_input(x, *, approximate):
    x[...] = gelu(x, approximate)
    return x.copy()


@wrong()
def writes_and_restores(x, *, approximate):
    x *= np.float32(2)
    y = gelu(x * np.float32(0.5), approximate)
    x *= np.float32(0.5)
    return y


@wrong()
def returns_its_input(x, *, approximate):
    if (gelu(x, approximate) == x).all():
        return x
    return gelu(x, approximate)


@wrong()
def result_is_a_view_of_input(x, *, approximate):
    y = gelu(x, approximate)
    x[...] = y
    return x[...]


@wrong(writes_out=True)
def returns_another_array(x, *, approximate, out):
    out[...] = gelu(x, approximate)
    return out.copy()


@wrong(writes_out=True)
def ignores_out(x, *, approximate, out):
    return gelu(x, approximate)


_hoard: list[Any] = []


@wrong()
def hoards_inputs(x, *, approximate):
    _hoard.append(x)
    return gelu(x, approximate)


@wrong()
def hoards_views(x, *, approximate):
    _hoard.append(x.reshape(-1))
    return gelu(x, approximate)


class _Last:
    x: Any = None


@wrong()
def keeps_last_input(x, *, approximate):
    _Last.x = x
    return gelu(x, approximate)


@wrong()
def writes_later(x, *, approximate):
    y = gelu(x, approximate)
    target = y.reshape(-1)
    threading.Timer(0.005, lambda: target.fill(0)).start()
    return y


@wrong()
def exits(x, *, approximate):
    raise SystemExit(3)


@wrong()
def raises_for_empty(x, *, approximate):
    if not x.size:
        raise ValueError("nothing to do")
    return gelu(x, approximate)


@wrong()
def nan_stays(x, *, approximate, _seen=[False]):
    _seen[0] |= bool(np.isnan(x).any())
    return gelu(x, approximate) * np.float32(np.nan if _seen[0] else 1)


@wrong(strided=True)
def reads_strided_wrongly(x, *, approximate):
    flat = np.lib.stride_tricks.as_strided(x, (x.size,), (x.itemsize,)) if x.size else x.reshape(-1)
    return gelu(flat, approximate).reshape(x.shape)


# --- wrong: items


@wrong(form="items", item_shape=(64,), batch_sizes=(1, 10, 100))
def swapped_slots(x, *, approximate):
    return gelu(x[::-1], approximate)


@wrong(form="items", item_shape=(64,), batch_sizes=(1, 10, 100))
def last_two_slots_swapped_in_100(x, *, approximate):
    y = gelu(x, approximate)
    if len(x) == 100:
        y[[98, 99]] = y[[99, 98]]
    return y


@wrong(form="items", item_shape=(64,), batch_sizes=(1, 10, 100, 1000))
def slot_57_repeated_in_1000(x, *, approximate):
    y = gelu(x, approximate)
    if len(x) == 1000:
        y[57] = y[56]
    return y


@wrong(form="items", item_shape=(64,), batch_sizes=(8,))
def last_slot_unwritten(x, *, approximate, out):
    out[:-1] = gelu(x[:-1], approximate)
    return out


@wrong(form="items", item_shape=(64,))
def wrong_in_blocks_of_odd_length(x, *, approximate):
    y = gelu(x, approximate)
    if len(x) % 2 and len(x) > 2:
        y[-1] = 0
    return y


@wrong(form="items", item_shape=(33,), batch_sizes=assay.BatchSizes.up_to(12))
def wrong_in_the_longest_block(x, *, approximate):
    y = gelu(x, approximate)
    return y if len(x) < 12 else y * np.float32(1.001)


@wrong(form="items", item_shape=(64,), batch_sizes=(1, 16), writes_out=True)
def items_returned_elsewhere(x, *, approximate, out):
    return gelu(x, approximate)


@wrong(form="items", item_shape=(64,), batch_sizes=(16,))
def scale_of_the_whole_block(x, *, approximate):
    y = gelu(x, approximate)
    scale = np.abs(y).max() / 127 or 1
    return (np.round(y / scale) * scale).astype(np.float32)


# --- right, in odd styles


@right()
def plain(x, *, approximate):
    return gelu(x, approximate)


@right()
def any_keywords(x, **params):
    return gelu(x, params["approximate"])


@right()
def fortran_order(x, *, approximate):
    return np.asfortranarray(gelu(x, approximate))


@right()
def read_only_result(x, *, approximate):
    y = gelu(x, approximate)
    y.flags.writeable = False
    return y


@right()
def view_of_something_larger(x, *, approximate):
    wide = np.empty((x.size, 3), x.dtype)
    wide[:, 1] = gelu(x, approximate).reshape(-1)
    return wide[:, 1].reshape(x.shape) if x.ndim == 1 else wide[:, 1].copy().reshape(x.shape)


@right()
def reads_a_read_only_view(x, *, approximate):
    view = x.view()
    view.flags.writeable = False
    return gelu(view, approximate)


@right()
def scalars_for_no_axes(x, *, approximate):
    y = gelu(x, approximate)
    return y[()] if x.ndim == 0 else y


@right()
def warns(x, *, approximate):
    warnings.warn("slow path", RuntimeWarning, stacklevel=1)
    np.log(np.zeros(1, np.float32))
    return gelu(x, approximate)


@right()
def pool_of_threads(x, *, approximate, _pool=ThreadPoolExecutor(2)):
    parts = np.array_split(x.reshape(-1), 2)
    return np.concatenate(list(_pool.map(functools.partial(gelu, approximate=approximate), parts))).reshape(
        x.shape
    )


class _OwnThread:
    """A thread that waits for work and still holds the last piece in a local variable, as such threads do."""

    def __init__(self) -> None:
        self.work: queue.SimpleQueue[Any] = queue.SimpleQueue()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            x, approximate, answer = self.work.get()
            answer.put(gelu(x, approximate))


@right()
def thread_of_its_own(x, *, approximate, _thread=_OwnThread()):
    answer: queue.SimpleQueue[Any] = queue.SimpleQueue()
    _thread.work.put((x, approximate, answer))
    return answer.get()


@right()
def slow_first_call(x, *, approximate, _ready=[]):
    if not _ready:
        time.sleep(0.2)
        _ready.append(True)
    return gelu(x, approximate)


@right()
def compiled_per_shape(x, *, approximate, _compiled={}):
    key = (x.shape, approximate)
    if key not in _compiled:
        time.sleep(0.001)
        _compiled[key] = functools.partial(gelu, approximate=approximate)
    return _compiled[key](x)


@right(opener=True)
class callable_with_scratch:
    """Not thread-safe, and does not say so: calls come one at a time."""

    def __init__(self, device: assay.Device, plan: assay.Plan) -> None:
        self.scratch: dict[int, Any] = {}

    def __call__(self, x, *, approximate):
        y = self.scratch.setdefault(x.size, np.empty(x.size))
        y[:] = gelu(x, approximate).reshape(-1)
        return y.astype(x.dtype).reshape(x.shape)

    def close(self) -> None:
        self.scratch.clear()


@right(writes_out=True)
def returns_view_of_out(x, *, approximate, out):
    out[...] = gelu(x, approximate)
    return out[...]


@right(strided=True, dtypes={"float32", "float64", "float16"})
def reads_any_strides(x, *, approximate):
    return gelu(x, approximate)


@right(accuracy="approximate", dtypes={"float32"})
def half_inside_and_says_so(x, *, approximate):
    y = gelu(x.astype(np.float64), approximate)
    return (y * (1 + np.float64(2.0**-11))).astype(np.float32)


@right(params={"approximate": {"tanh"}})
def tanh_only(x, *, approximate):
    return gelu(x, "tanh")


@right(shapes=lambda x: len(x) == 1 or "one axis only")
def one_axis_only(x, *, approximate):
    assert x.ndim == 1
    return gelu(x, approximate)


@right()
def python_loop(x, *, approximate):
    if approximate == "tanh" or x.size > 10_000:
        return gelu(x, approximate)
    flat = [0.5 * v * math.erfc(-v * math.sqrt(0.5)) for v in x.reshape(-1).tolist()]
    return np.array(flat, x.dtype).reshape(x.shape)


@right(form="items", item_shape=(64,))
def items_without_out(x, *, approximate):
    return gelu(x, approximate)


@right(form="items", item_shape=(7, 5), batch_sizes=(100,))
def items_of_two_axes(x, *, approximate, out):
    out[...] = gelu(x, approximate)
    return out


@right(form="items", batch_sizes=(1, 10, 100), writes_out=True)
def items_into_out(x, *, approximate, out):
    out[...] = gelu(x, approximate)
    return out


@right(form="items", item_shape=(96,), batch_sizes=assay.BatchSizes.up_to(5))
def items_transposed(x, *, approximate, **rest):
    return np.ascontiguousarray(gelu(x, approximate).T).T
