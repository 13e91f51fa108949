"""Has candidates prove themselves: in the worker process, or here when they are live objects."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from queue import Empty, Queue
from typing import Any, TypeVar

from assay.contract.candidate import Candidate, Certificate, load_certificate
from assay.contract.operation import Operation, Params
from assay.contract.reasons import ReasonCode
from assay.negotiation.exam import Exam, ProofFailed
from assay.negotiation.loading import certify
from assay.negotiation.speed import Shapes, workloads

T = TypeVar("T")

START_TIMEOUT_S = 60.0

PATIENCE = 4
"""How many times its deadline a stage may take at most, where the machine gives its process no core."""

RACE_S = 0.3
"""How long candidates are timed against each other at a start."""


class Prover:
    """Two worker processes for many proofs, each started when it is first asked for something.

    They may be asked at the same time. All candidates of one run get the same questions, drawn from one seed.

    Args:
        settings: What a worker needs to find the same candidates: {"plugins": ..., "devices": ...,
            "kernels": folders with manifests}.
        timeout_s: The longest that a candidate may take to load, and the longest that its proof may take.
            What a process waits for a core is not counted, where the system tells.
    """

    def __init__(self, settings: Mapping[str, Any], timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._exam = Exam(alone=True)  # at a start, nothing else computes
        self._lanes = [_Lane({**settings, "seed": self._exam.seed}) for _ in range(2)]

    def prove(self, op: Operation[Any, Any], candidate: Candidate, lane: int = 0) -> Certificate:
        """Prove one candidate under its plan, in the first worker or the second.

        Raises:
            ProofFailed: Why it is not proved.
        """
        plan = candidate.plan
        assert plan is not None
        if candidate.live:
            return within(
                lambda: certify(op, candidate, plan, self._exam), self.timeout_s, "proving it in this process"
            )
        worker, owner = self._lanes[lane], str(candidate.distribution)
        task = {"op": op.name, **_entry(candidate)}
        try:
            answer = worker.ask(task, owner, self.timeout_s)
        except ProofFailed as failure:
            if failure.code is ReasonCode.TIMED_OUT or worker.served <= {owner}:
                raise
            worker.end()  # nobody is judged by what another distribution's code has left behind
            answer = worker.ask(task, owner, self.timeout_s)
        return load_certificate(answer["certificate"])

    def race(
        self,
        op: Operation[Any, Any],
        candidates: Sequence[Candidate],
        shapes: Sequence[Shapes] = (),
        params: Params | None = None,
        budget_s: float = RACE_S,
    ) -> dict[str, float]:
        """Seconds for one request of each kind by each candidate that takes them, measured in turns.

        Args:
            op: Their operation.
            candidates: Proven ones, none of them live.
            shapes: Those of each request's inputs; none: the standard workload.
            params: What differs from the standard workload's.
            budget_s: How long the race may go on.

        Raises:
            ProofFailed: One of them ended the process.
            InvalidInput: The operation does not take such a workload.
        """
        workloads(op, shapes, params)
        task = {
            "op": op.name,
            "race": [_entry(candidate) for candidate in candidates],
            "shapes": shapes,
            "params": dict(params or {}),
            "budget_s": budget_s,
        }
        libraries = any(candidate.implementation.capabilities.requires.packages for candidate in candidates)
        worker = self._lanes[libraries]  # where they are imported already, or most of them
        return dict(worker.ask(task, "", self.timeout_s + budget_s)["seconds"])

    def close(self) -> None:
        """End the workers."""
        for lane in self._lanes:
            lane.end()


class _Lane:
    """One worker at a time, and the next one when it is gone."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        self._worker: _Worker | None = None
        self._broken: ProofFailed | None = None
        self._turn = threading.Lock()

    @property
    def served(self) -> set[str]:
        """Whose code the present worker has run."""
        return set() if self._worker is None else self._worker.served

    def ask(self, task: Mapping[str, Any], owner: str, timeout_s: float) -> dict[str, Any]:
        """One task's answer.

        Raises:
            ProofFailed: What the worker says, or how it ended.
        """
        with self._turn:
            if self._broken is not None:
                raise self._broken
            if self._worker is not None and not self._worker.alive:
                self.end()  # whatever ended it after its last answer is not this candidate's doing
            if self._worker is None:
                try:
                    self._worker = _Worker(self._settings)
                except ProofFailed as failure:
                    self._broken = failure
                    raise
            self._worker.served.add(owner)
            try:
                answer = self._worker.ask(task, timeout_s)
            except ProofFailed:
                self._worker.kill()
                raise
        if "failed" in answer:
            failed = answer["failed"]
            raise ProofFailed(ReasonCode(failed["code"]), failed["message"], failed["remedy"])
        return answer

    def end(self) -> None:
        """End the worker, if there is one."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()


def _entry(candidate: Candidate) -> dict[str, Any]:
    plan = candidate.plan
    assert plan is not None
    return {
        "id": candidate.id,
        "distribution": str(candidate.distribution),
        "plan": {
            "batch_size": plan.batch_size,
            "accuracy": plan.accuracy.value,
            "threads": plan.threads,
            "buffer_flag": plan.buffer_flag and plan.buffer_flag.value,
            "memory": plan.memory,
        },
    }


def within(work: Callable[[], T], timeout_s: float, what: str) -> T:
    """Run in a thread and wait at most so long.

    Raises:
        ProofFailed: It took longer, or tried to end this process or its thread.
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
    if isinstance(value, Exception):
        raise value
    told = f"called sys.exit({value.code!r})" if isinstance(value, SystemExit) else f"raised {value!r}"
    raise ProofFailed(ReasonCode.CRASHED, told, "never call exit in a kernel; raise an Exception")


class _Worker:
    """The parent's end of one worker process."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        environment = {
            # Two workers share the machine: threads that spin while they wait would take each other's cores.
            "OMP_WAIT_POLICY": "PASSIVE",
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        self.served: set[str] = set()
        self.stage = "starting"
        self.lines: Queue[str] = Queue()
        self.said = tempfile.TemporaryFile("w+b")  # noqa: SIM115  # as long-lived as the process
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "assay.negotiation.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.said,
                env=environment,
                text=True,
                encoding="utf-8",
            )
        except OSError as error:
            self.said.close()
            raise ProofFailed(
                ReasonCode.CRASHED,
                f"no process to prove it in: {sys.executable!r} does not start: {error}",
                "let sys.executable be this Python",
            ) from error
        threading.Thread(target=self._read, daemon=True, name="assay-worker-reader").start()
        self._send(settings)
        self._expect(START_TIMEOUT_S)

    @property
    def alive(self) -> bool:
        """Whether it still runs and listens."""
        return self.process.poll() is None and self.lines.empty()

    def ask(self, task: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        """One candidate's proof.

        Raises:
            ProofFailed: The process died or did not answer in time.
        """
        self._send({**task, "alarm_s": 2 * PATIENCE * timeout_s})
        return self._expect(timeout_s)

    def kill(self) -> None:
        """End it whatever it does; whoever is next must not find it dying."""
        self.process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=2)

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
        self.said.close()

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

    def _expect(self, timeout_s: float) -> dict[str, Any]:
        """The next answer. Each stage has so long, besides what it waits for a core."""
        start, waited = time.monotonic(), self._waited()
        while True:
            taken = time.monotonic() - start
            admitted = min(timeout_s + self._waited() - waited, PATIENCE * timeout_s)
            if taken >= admitted:
                raise ProofFailed(
                    ReasonCode.TIMED_OUT,
                    f"did not finish {self.stage} within {timeout_s:g} s; the process was ended",
                    "mend the kernel, or raise [proof] timeout_s if it is only slow; "
                    "until then deny it, or every start waits as long",
                )
            try:
                line = self.lines.get(timeout=admitted - taken)
            except Empty:
                continue
            if not line:
                raise ProofFailed(
                    ReasonCode.CRASHED,
                    f"ended the proof's process while {self.stage}: {self._ending()}",
                    "mend the kernel; it never touched this process",
                )
            message = json.loads(line)
            if "stage" not in message:
                return message  # type: ignore[no-any-return]  # the worker's own JSON
            self.stage = message["stage"]
            start, waited = time.monotonic(), self._waited()

    def _waited(self) -> float:
        """Seconds that the process has wanted a core and got none, as far as the system tells."""
        try:
            with open(f"/proc/{self.process.pid}/schedstat", encoding="ascii") as file:
                return int(file.read().split()[1]) / 1e9
        except (OSError, ValueError, IndexError):
            return 0.0

    def _ending(self) -> str:
        """How it ended, and where, as far as it could say."""
        try:
            code = self.process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            return "it closed its output"
        told = f"exit code {code}"
        if code < 0:
            with contextlib.suppress(ValueError):
                told = f"signal {signal.Signals(-code).name}"
        self.said.seek(0)
        lines = self.said.read().decode(errors="replace").splitlines()
        if code >= 0:
            return "; ".join([told, *lines[-1:]])
        # The latest call comes first; that of the kernel is the one before the proof's own.
        where = [line.strip() for line in lines if line.startswith("  File ")]
        own = next((place for place, line in enumerate(where) if "assay/negotiation" in line), 1)
        return "; ".join([told, *where[max(0, own - 1) : max(1, own)]])
