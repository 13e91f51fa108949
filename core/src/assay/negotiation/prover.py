"""Has candidates prove themselves: in the worker process, or here when they are live objects."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from queue import Empty, Queue
from typing import Any, TypeVar

from assay.contract.candidate import Candidate, Certificate, load_certificate
from assay.contract.operation import Operation
from assay.contract.reasons import ReasonCode
from assay.negotiation.loading import load
from assay.negotiation.proof import ProofFailed, draw_seed, prove

T = TypeVar("T")

START_TIMEOUT_S = 60.0


class Prover:
    """One worker process for many proofs, started when the first one is asked for.

    Args:
        settings: What the worker needs to find the same candidates: {"plugins": ..., "devices": ...}.
        timeout_s: The longest that one candidate may take, loading included.
    """

    def __init__(self, settings: Mapping[str, Any], timeout_s: float) -> None:
        self.settings = settings
        self.timeout_s = timeout_s
        self._worker: _Worker | None = None
        self._turn = threading.Lock()

    def prove(self, op: Operation[Any, Any], candidate: Candidate) -> Certificate:
        """Prove one candidate under its plan.

        Raises:
            ProofFailed: Why it is not proved.
        """
        seed = draw_seed()
        if candidate.live:
            return self._here(op, candidate, seed)
        with self._turn:
            return self._in_worker(op, candidate, seed)

    def close(self) -> None:
        """End the worker."""
        with self._turn:
            if self._worker is not None:
                self._worker.close()
                self._worker = None

    def _in_worker(self, op: Operation[Any, Any], candidate: Candidate, seed: int) -> Certificate:
        plan = candidate.plan
        assert plan is not None
        task = {
            "op": op.name,
            "id": candidate.id,
            "distribution": str(candidate.distribution),
            "seed": seed,
            "plan": {
                "batch_size": plan.batch_size,
                "accuracy": plan.accuracy.value,
                "threads": plan.threads,
                "buffer_flag": plan.buffer_flag and plan.buffer_flag.value,
                "memory": plan.memory,
            },
        }
        if self._worker is None:
            self._worker = _Worker(self.settings)
        try:
            answer = self._worker.ask(task, self.timeout_s)
        except ProofFailed:
            self._worker.kill()
            self._worker = None
            raise
        if "certificate" in answer:
            return load_certificate(answer["certificate"])
        failed = answer["failed"]
        raise ProofFailed(ReasonCode(failed["code"]), failed["message"], failed["remedy"])

    def _here(self, op: Operation[Any, Any], candidate: Candidate, seed: int) -> Certificate:
        """A live object cannot be moved: it is proved in a thread, which is left behind if it hangs."""
        assert candidate.plan is not None
        plan = candidate.plan

        def work() -> Certificate:
            kernel = load(op, candidate, plan)
            try:
                return prove(kernel, seed)
            finally:
                kernel.close()

        return within(work, self.timeout_s, "proving it here")


def within(work: Callable[[], T], timeout_s: float, what: str) -> T:
    """Run in a thread and wait at most so long.

    Raises:
        ProofFailed: It took longer, or called sys.exit.
        Exception: Whatever it raises.
    """
    answers: Queue[tuple[bool, Any]] = Queue()

    def run() -> None:
        try:
            answers.put((True, work()))
        except BaseException as error:  # noqa: BLE001  # carried over to the caller's thread
            answers.put((False, error))

    threading.Thread(target=run, daemon=True, name="assay-proof").start()
    try:
        good, value = answers.get(timeout=timeout_s)
    except Empty:
        raise ProofFailed(
            ReasonCode.TIMED_OUT,
            f"{what} took longer than {timeout_s:g} s",
            "raise [proof] timeout_s, or mend it",
        ) from None
    if good:
        return value  # type: ignore[no-any-return]  # the queue holds what work returned
    if isinstance(value, SystemExit):
        raise ProofFailed(
            ReasonCode.CRASHED, f"called sys.exit({value.code!r})", "never call exit in a kernel"
        )
    raise value


class _Worker:
    """The parent's end of one worker process."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "assay.negotiation.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
            encoding="utf-8",
        )
        self.lines: Queue[str] = Queue()
        self.stage = "starting"
        threading.Thread(target=self._read, daemon=True, name="assay-worker-reader").start()
        self._send(settings)
        self._expect("ready", time.monotonic() + START_TIMEOUT_S)

    def ask(self, task: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        """One candidate's proof.

        Raises:
            ProofFailed: The process died or did not answer in time.
        """
        self._send(task)
        return self._expect("certificate", time.monotonic() + timeout_s)

    def kill(self) -> None:
        """End it whatever it does."""
        self.process.kill()
        self.close()

    def close(self) -> None:
        """End it, politely first."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # a dead process is noticed when its answer does not come
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines, contextlib.suppress(ValueError, OSError):
            for line in lines:
                self.lines.put(line)
        self.lines.put("")

    def _expect(self, what: str, deadline: float) -> dict[str, Any]:
        while True:
            try:
                line = self.lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except Empty:
                raise ProofFailed(
                    ReasonCode.TIMED_OUT,
                    f"did not finish {self.stage} in time; the process was ended",
                    "raise [proof] timeout_s if it is only slow; otherwise mend the kernel",
                ) from None
            if not line:
                raise ProofFailed(
                    ReasonCode.CRASHED,
                    f"ended the proof's process while {self.stage}: {_ending(self.process)}",
                    "run `assay prove` on it under a debugger; it never touched this process",
                )
            message = json.loads(line)
            if "stage" in message:
                self.stage = message["stage"]
            elif what in message or "failed" in message:
                return message  # type: ignore[no-any-return]  # the worker's own JSON


def _ending(process: subprocess.Popen[str]) -> str:
    try:
        code = process.wait(timeout=2)
    except subprocess.TimeoutExpired:
        return "it closed its output"
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"
