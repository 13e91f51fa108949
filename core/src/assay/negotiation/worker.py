"""The process in which candidates prove themselves: ``python -m assay.negotiation.worker``.

It reads one line of JSON with the settings, then one per task, and answers each with lines of JSON:
{"stage": ...} as it gets on, and last {"certificate": ...}, {"seconds": ...} or {"failed": ...}.
Whatever kernels print goes to standard error; the answers have a descriptor of their own.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import math
import os
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from assay.contract.candidate import Candidate, dump_certificate
from assay.contract.capabilities import Accuracy, BufferFlag
from assay.contract.device import Plan
from assay.contract.errors import DeviceUnavailable
from assay.contract.reasons import ReasonCode
from assay.devices.inventory import Inventory
from assay.devices.xrt.offers import XrtPlugin
from assay.negotiation.exam import Exam, ProofFailed
from assay.negotiation.loading import certify, load
from assay.negotiation.speed import race, workloads
from assay.registry import Registry, discover

GRACE_S = 5
"""How long a task may go on after its deadline before the process ends itself: whoever asked is gone."""

Send = Callable[[dict[str, Any]], None]


def main() -> None:
    """Serve proofs until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    questions = os.fdopen(os.dup(0), encoding="utf-8")
    os.dup2(2, 1)  # a kernel that prints must not break the conversation, nor one that reads
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    faulthandler.enable()
    warnings.simplefilter("ignore")  # they are for whoever runs the kernel, not for its proof
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")  # if memory runs out, it is this process that goes, not the one that serves

    def send(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    settings = json.loads(questions.readline())
    manifests = XrtPlugin(map(Path, settings.get("kernels", ())))
    registry = discover(**settings["plugins"], builtin={"xrt": manifests})
    inventory = Inventory(registry.drivers, settings["devices"])
    exam = Exam(settings["seed"], alone=True)
    send({"ready": True})
    for line in questions:
        task = json.loads(line)
        _alarm(math.ceil(task["alarm_s"]) + GRACE_S)
        try:
            send(_serve(registry, inventory, exam, task, send))
        except ProofFailed as failure:
            send(_failed(failure.code, failure.message, failure.remedy))
        except DeviceUnavailable as error:
            send(_failed(ReasonCode(error.code), str(error), error.remedy))
        except SystemExit as error:
            send(_failed(ReasonCode.CRASHED, f"called sys.exit({error.code!r})", "never call exit"))
        except KeyboardInterrupt:
            send(_failed(ReasonCode.CRASHED, "raised KeyboardInterrupt", "raise an Exception"))
        _alarm(0)
    inventory.close()
    os._exit(0)  # what candidates left behind (threads, exit handlers) cannot delay the end


def _serve(
    registry: Registry, inventory: Inventory, exam: Exam, task: dict[str, Any], send: Send
) -> dict[str, Any]:
    send({"stage": "loading"})
    op = registry.operation(task["op"])
    if "race" not in task:
        candidate = _find(registry, task)
        plan = _plan(inventory, candidate, task["plan"])
        send({"stage": "proving"})
        return {"certificate": dump_certificate(certify(op, candidate, plan, exam))}
    with contextlib.ExitStack() as opened:
        kernels = {}
        for entry in task["race"]:
            candidate = _find(registry, task | entry)
            kernels[entry["id"]] = load(op, candidate, _plan(inventory, candidate, entry["plan"]))
            opened.callback(kernels[entry["id"]].close)
        return {"seconds": race(kernels, workloads(op, task["shapes"], task["params"]), task["budget_s"])}


def _plan(inventory: Inventory, candidate: Candidate, terms: dict[str, Any]) -> Plan:
    return Plan(
        device=inventory.get(candidate.implementation.capabilities.requires.device),
        batch_size=terms["batch_size"],
        accuracy=Accuracy(terms["accuracy"]),
        threads=terms["threads"],
        buffer_flag=terms["buffer_flag"] and BufferFlag(terms["buffer_flag"]),
        memory=terms["memory"],
    )


def _find(registry: Registry, task: dict[str, Any]) -> Candidate:
    for candidate in registry.candidates(task["op"]):
        if candidate.id == task["id"] and str(candidate.distribution) == task["distribution"]:
            return candidate
    raise ProofFailed(
        ReasonCode.LOAD_FAILED,
        f"{task['id']} of {task['distribution']} was not found in the proof's process",
        "declare it in an installed plugin, the same at every import",
    )


def _alarm(seconds: int) -> None:
    """End this process by the system's own hand, which no loop in native code can hold off."""
    if hasattr(signal, "alarm"):
        signal.alarm(seconds)


def _failed(code: ReasonCode, message: str, remedy: str = "") -> dict[str, Any]:
    return {"failed": {"code": code.value, "message": message, "remedy": remedy}}


if __name__ == "__main__":
    main()
