"""The process in which candidates prove themselves: ``python -m assay.negotiation.worker``.

It reads one line of JSON with the settings, then one per candidate, and answers each with lines of JSON:
{"stage": ...} as it gets on, and last {"certificate": ...} or {"failed": ...}.
Whatever kernels print goes to standard error; the answers have a descriptor of their own.
"""

from __future__ import annotations

import json
import os
import sys
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
from assay.negotiation.loading import load
from assay.negotiation.proof import ProofFailed, prove
from assay.registry import Registry, discover

Send = Callable[[dict[str, Any]], None]


def main() -> None:
    """Serve proofs until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # a kernel that prints must not break the conversation

    def send(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    lines = sys.stdin
    settings = json.loads(lines.readline())
    registry = discover(**settings["plugins"], builtin={"xrt": XrtPlugin(map(Path, settings["kernels"]))})
    inventory = Inventory(registry.drivers, settings["devices"])
    send({"ready": True})
    for line in lines:
        task = json.loads(line)
        try:
            send(serve(registry, inventory, task, send))
        except SystemExit as error:
            send(_failed(ReasonCode.CRASHED, f"called sys.exit({error.code!r})"))
    inventory.close()
    answers.flush()
    os._exit(0)  # what candidates left behind (threads, exit handlers) cannot delay the end


def serve(registry: Registry, inventory: Inventory, task: dict[str, Any], send: Send) -> dict[str, Any]:
    """Prove, or only time, one candidate."""
    candidate = _find(registry, task)
    if candidate is None:
        return _failed(
            ReasonCode.LOAD_FAILED,
            f"{task['id']} of {task['distribution']} was not found in the proof's process",
            "declare it in an installed plugin",
        )
    op = registry.operations[candidate.implementation.op]
    try:
        device = inventory.get(candidate.implementation.capabilities.requires.device)
    except DeviceUnavailable as error:
        return _failed(ReasonCode(error.code), str(error), error.remedy)
    terms = task["plan"]
    plan = Plan(
        device=device,
        batch_size=terms["batch_size"],
        accuracy=Accuracy(terms["accuracy"]),
        threads=terms["threads"],
        buffer_flag=terms["buffer_flag"] and BufferFlag(terms["buffer_flag"]),
        memory=terms["memory"],
    )
    send({"stage": "loading"})
    try:
        kernel = load(op, candidate, plan)
        send({"stage": "proving"})
        try:
            return {"certificate": dump_certificate(prove(kernel, task["seed"]))}
        finally:
            kernel.close()
    except ProofFailed as failure:
        return _failed(failure.code, failure.message, failure.remedy)


def _find(registry: Registry, task: dict[str, Any]) -> Candidate | None:
    for candidate in registry.candidates(task["op"]):
        if candidate.id == task["id"] and str(candidate.distribution) == task["distribution"]:
            return candidate
    return None


def _failed(code: ReasonCode, message: str, remedy: str = "") -> dict[str, Any]:
    return {"failed": {"code": code.value, "message": message, "remedy": remedy}}


if __name__ == "__main__":
    main()
