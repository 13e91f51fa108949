"""The proof's process: whatever a candidate does there is a reason, and nobody else's."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import assay
import pytest
from assay.contract.candidate import Candidate
from assay.contract.device import Device, Plan
from assay.contract.reasons import ReasonCode
from assay.negotiation.exam import ProofFailed
from assay.negotiation.prover import PATIENCE, Prover, _Worker, within
from assay.registry import discover

HOSTILE = Path(__file__).with_name("hostile")


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    """The hostile plugin and an innocent one, and none else."""
    monkeypatch.syspath_prepend(HOSTILE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HOSTILE), os.environ.get("PYTHONPATH", "")]))


PLUGINS = {"allow": ["hostile", "innocent"]}


@pytest.fixture
def prover():
    made = Prover({"plugins": PLUGINS, "devices": {}}, timeout_s=20.0)
    yield made
    made.close()


def candidate(name):
    """A candidate of the hostile plugin's operation, with a plan."""
    registry = discover(**PLUGINS)
    found: Candidate = next(c for c in registry.candidates("triple") if c.id == f"triple.{name}")
    found.plan = Plan(Device("cpu", "CPU"), batch_size=1)
    return registry.operation("triple"), found


def fails(prover, name):
    with pytest.raises(ProofFailed) as caught:
        prover.prove(*candidate(name))
    return caught.value


@pytest.mark.parametrize(
    ("name", "code", "told"),
    [
        ("segfaults", ReasonCode.CRASHED, "signal SIGSEGV"),
        ("aborts", ReasonCode.CRASHED, "signal SIGABRT"),
        ("killed", ReasonCode.CRASHED, "signal SIGKILL"),
        ("exits", ReasonCode.CRASHED, "called sys.exit(3)"),
        ("exits-at-once", ReasonCode.CRASHED, "exit code 0"),
        ("interrupts", ReasonCode.CRASHED, "KeyboardInterrupt"),
        ("out-of-memory", ReasonCode.RAISED, "MemoryError"),
        ("closes-descriptors", ReasonCode.CRASHED, "while proving"),
        ("touches-signals", ReasonCode.RAISED, "it changed signal handlers"),
        ("leaves-badly", ReasonCode.RAISED, "its close() raised RuntimeError: cannot close"),
        ("ends-on-import", ReasonCode.CRASHED, "called sys.exit('not today')"),
        ("heavy", ReasonCode.INACCURATE, "zeros"),
    ],
)
def test_what_a_candidate_does_is_its_reason(prover, name, code, told):
    """It costs that candidate alone; the next one is proved."""
    failure = fails(prover, name)
    assert (failure.code, told in failure.message) == (code, True), failure.message

    assert prover.prove(*candidate("right")).id == "triple.right"


def test_a_crash_says_where():
    """The message names the line that was running."""
    made = Prover({"plugins": PLUGINS, "devices": {}}, timeout_s=20.0)
    try:
        assert "assay_hostile.py" in fails(made, "segfaults").message
    finally:
        made.close()


@pytest.mark.parametrize("name", ["hangs", "hangs-in-native-code"])
def test_a_hang_is_ended_at_the_deadline(name):
    """Whether it lets go of the interpreter or not."""
    made = Prover({"plugins": PLUGINS, "devices": {}}, timeout_s=2.0)
    try:
        start = time.monotonic()
        failure = fails(made, name)
        assert failure.code is ReasonCode.TIMED_OUT
        assert time.monotonic() - start < 15
    finally:
        made.close()


def test_a_worker_ends_itself_when_nobody_is_left_to_end_it():
    """A kernel that hangs in native code does not outlive its deadline by much, even as an orphan."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(HOSTILE)!r})\n" + ORPHAN]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    orphan = int(done.stdout)

    for _ in range(200):
        try:
            os.kill(orphan, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.kill(orphan, 9)
    pytest.fail("the worker outlived its parent and its deadline by far")


ORPHAN = """
import os, threading, time
from assay.contract.device import Device, Plan

from assay.negotiation.prover import Prover
from assay.registry import discover
plugins = {"allow": ["hostile"]}
registry = discover(**plugins)
found = next(c for c in registry.candidates("triple") if c.id == "triple.hangs-in-native-code")
found.plan = Plan(Device("cpu", "CPU"), batch_size=1)
prover = Prover({"plugins": plugins, "devices": {}}, timeout_s=1.0)
threading.Thread(target=lambda: prover.prove(registry.operation("triple"), found), daemon=True).start()
while prover._lanes[0]._worker is None or prover._lanes[0]._worker.stage != "proving":
    time.sleep(0.01)
print(prover._lanes[0]._worker.process.pid, flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("name", ["prints", "reads-standard-input"])
def test_standard_streams_are_no_business_of_the_proof(prover, name):
    """A kernel that prints forged answers, or reads, is proved like any other."""
    assert prover.prove(*candidate(name)).id == f"triple.{name}"


@pytest.mark.parametrize("name", ["crashes-later", "spoils-numpy"])
def test_nobody_is_judged_by_what_another_distribution_left_behind(prover, name):
    """A failure in a process that ran somebody else's code is tried again in a fresh one."""
    fails(prover, name)
    if name == "crashes-later":
        time.sleep(0.5)
    assert prover.prove(*candidate("zz-innocent")).id == "triple.zz-innocent"


def test_many_candidates_share_a_process(prover):
    """It lives as long as nobody ends it, and asks each the same questions."""
    certificates = [prover.prove(*candidate(name)) for name in ("right", "prints", "zz-innocent")]
    assert len({certificate.seed for certificate in certificates}) == 1
    assert len({lane._worker and lane._worker.process.pid for lane in prover._lanes} - {None}) == 1


def test_what_losers_import_never_enters_the_server(tmp_path):
    """A runtime that proves and rejects them has not loaded their modules."""
    program = f"""
import json, sys
sys.path.insert(0, {str(HOSTILE)!r})
import assay
deny = ["hangs*", "crashes-later", "right-elsewhere", "prints", "reads*"]
with assay.Runtime({{"plugins": {PLUGINS!r}, "ops": {{"triple": {{"deny": deny}}}}, "select": "priority",
                     "proof": {{"ledger": {str(tmp_path)!r}}}}}) as runtime:
    decision = runtime.explain("triple")
    verdicts = {{c.id: c.verdict.value for c in decision.candidates}}
    modules = [name for name in sys.modules if name.startswith("assay_hostile")]
print(json.dumps([decision.chosen, verdicts, modules]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    chosen, verdicts, modules = json.loads(done.stdout)
    assert chosen == "triple.right"
    assert verdicts["triple.heavy"] == "rejected"
    assert modules == ["assay_hostile"]


def test_a_kernel_that_is_right_elsewhere_only_never_serves(tmp_path):
    """A certificate from another process is no proof of this one."""
    settings = {"plugins": PLUGINS, "ops": {"triple": {"require": "right-elsewhere"}}}
    with assay.Runtime({**settings, "proof": {"ledger": str(tmp_path)}}) as runtime:
        only = runtime.explain("triple")["right-elsewhere"]
    assert only.certificate is not None
    assert only.verdict is assay.Verdict.REJECTED
    assert only.reasons[-1].message.startswith("in this process: probe")


def test_no_process_to_prove_in_is_a_reason(monkeypatch, prover):
    """A Python that does not start costs the proofs, once, and not the start."""
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    for _ in range(2):
        failure = fails(prover, "right")
        assert (failure.code, "does not start" in failure.message) == (ReasonCode.CRASHED, True)


def test_within_turns_the_end_of_a_thread_into_a_reason():
    """A live object that exits or interrupts does not end the program."""
    for error in (SystemExit(2), KeyboardInterrupt(), GeneratorExit()):

        def work(error=error):
            raise error

        with pytest.raises(ProofFailed) as caught:
            within(work, 5.0, "proving")
        assert caught.value.code is ReasonCode.CRASHED


def test_within_carries_errors_over():
    """What the work raises comes out, in the caller's thread."""
    with pytest.raises(ZeroDivisionError):
        within(lambda: 1 // 0, 5.0, "dividing")
    assert within(threading.current_thread, 5.0, "asking") is not threading.current_thread()


def test_whoever_is_next_does_not_meet_a_dying_process():
    """After a candidate that is ended at its deadline, the next one gets a process of its own at once."""
    made = Prover({"plugins": PLUGINS, "devices": {}}, timeout_s=2.0)
    try:
        assert fails(made, "hangs").code is ReasonCode.TIMED_OUT
        op, right = candidate("right")
        assert made.race(op, [right]) != {}
    finally:
        made.close()


def test_waiting_for_a_core_is_not_held_against_a_candidate(monkeypatch):
    """A deadline counts what a process had, up to a multiple."""
    made = Prover({"plugins": PLUGINS, "devices": {}}, timeout_s=1.0)
    begun = time.monotonic()
    monkeypatch.setattr(_Worker, "_waited", lambda self: time.monotonic() - begun)
    try:
        start = time.monotonic()
        assert fails(made, "hangs").code is ReasonCode.TIMED_OUT
        assert time.monotonic() - start >= PATIENCE
    finally:
        made.close()
