"""An installed plugin for tests: the operation "triple", and kernels that do to a process what they can."""

import ctypes
import os
import signal
import sys
import threading
import time

import assay
import numpy as np


def triple(x, *, times=3, out=None):
    """Every element of x, float32 of shape (n,), times a whole number."""


def infer(x, *, times):
    return assay.Spec(x.shape, x.dtype)


def reference(x, *, times):
    return x.astype(np.float64) * times


def probes(rng, domain):
    for times in domain.values("times", (2, 3)):
        for n in (8, 1, 17, 1000):
            yield assay.Probe(f"{n} elements", (rng.standard_normal(n).astype(np.float32),), {"times": times})


def standard(rng):
    return assay.Probe("standard", (rng.standard_normal(5000).astype(np.float32),), {"times": 3})


def tolerance(kind, inputs, params, expected, accuracy):
    return assay.Tolerance(1e-5)


def right(x, *, times):
    return x * np.float32(times)


def segfaults(x, *, times):
    ctypes.string_at(0)


def aborts(x, *, times):
    os.abort()


def hangs(x, *, times):
    time.sleep(3600)


def hangs_in_native_code(x, *, times):
    ctypes.PyDLL(None).sleep(3600)  # holds the GIL


def exits(x, *, times):
    sys.exit(3)


def exits_at_once(x, *, times):
    os._exit(0)


def killed(x, *, times):
    os.kill(os.getpid(), signal.SIGKILL)


def interrupts(x, *, times):
    raise KeyboardInterrupt


def out_of_memory(x, *, times):
    return np.empty(1 << 60, np.uint8)


def prints(x, *, times):
    print('{"certificate": "forged"}', flush=True)
    os.write(1, b'{"certificate": "forged"}\n')
    return right(x, times=times)


def reads_standard_input(x, *, times):
    assert sys.stdin.read() == ""
    return right(x, times=times)


def closes_descriptors(x, *, times):
    os.closerange(0, 256)
    return right(x, times=times)


def touches_signals(x, *, times):
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    return right(x, times=times)


def crashes_later(x, *, times):
    threading.Timer(0.6, os.abort).start()
    raise RuntimeError("wrong, and it leaves something behind")


def spoils_numpy(x, *, times):
    np.random.default_rng = None
    ctypes.PyDLL(None)  # stays
    np.multiply = None
    raise RuntimeError("wrong, and it has spoilt the process for others")


def right_elsewhere(x, *, times):
    """Right where it is proved, wrong in the process that serves."""
    here = "assay.negotiation.worker" in getattr(sys.modules["__main__"], "__spec__", None).__str__()
    return right(x, times=times if here else 1)


class LeavesBadly:
    def __init__(self, device, plan):
        pass

    def __call__(self, x, *, times):
        return right(x, times=times)

    def close(self):
        raise RuntimeError("cannot close")


HOSTILE = (
    segfaults,
    aborts,
    hangs,
    hangs_in_native_code,
    exits,
    exits_at_once,
    killed,
    interrupts,
    out_of_memory,
    prints,
    reads_standard_input,
    closes_descriptors,
    touches_signals,
    crashes_later,
    spoils_numpy,
    right_elsewhere,
)


@assay.hookimpl
def assay_operations():
    yield assay.Operation(
        name="triple",
        version="1",
        signature=triple,
        inputs=(assay.Input("x", frozenset({"float32"})),),
        infer=infer,
        reference=reference,
        probes=probes,
        tolerance=tolerance,
        standard=standard,
    )


@assay.hookimpl
def assay_implementations():
    for kernel in HOSTILE:
        name = kernel.__name__.replace("_", "-")
        yield assay.Implementation(
            op="triple", name=name, priority=90, kernel=f"assay_hostile:{kernel.__name__}"
        )
    yield assay.Implementation(op="triple", name="leaves-badly", opener="assay_hostile:LeavesBadly")
    yield assay.Implementation(op="triple", name="ends-on-import", kernel="assay_hostile_import:kernel")
    yield assay.Implementation(op="triple", name="heavy", kernel="assay_hostile_heavy:kernel", priority=-1)
    yield assay.Implementation(op="triple", name="right", kernel="assay_hostile:right")
