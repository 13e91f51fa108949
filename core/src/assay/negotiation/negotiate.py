"""The one path: funnel, proof, certificate, rank, load, one probe here, bind."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from assay.config import Config
from assay.contract.candidate import Candidate, Certificate, Decision, State, Verdict
from assay.contract.log import emit
from assay.contract.operation import Operation
from assay.contract.reasons import Reason, ReasonCode
from assay.devices.inventory import Inventory
from assay.negotiation.fingerprint import fingerprint
from assay.negotiation.kernel import Kernel
from assay.negotiation.ledger import Ledger
from assay.negotiation.loading import load
from assay.negotiation.proof import ProofFailed, prove_once
from assay.negotiation.prover import Prover
from assay.negotiation.rank import rank
from assay.negotiation.screen import Terms, screen
from assay.registry import Registry

Progress = Callable[[str], None]


@dataclass(slots=True)
class Slate:
    """An operation's decision, and the kernels that are loaded in this process."""

    op: Operation[Any, Any]
    decision: Decision
    kernels: dict[str, Kernel] = field(default_factory=dict)

    @property
    def ranked(self) -> list[Candidate]:
        """The candidates that may serve, best first."""
        return [c for c in self.decision.candidates if c.verdict is not Verdict.REJECTED]


@dataclass(slots=True)
class Negotiation:
    """Everything that the negotiations of one runtime share."""

    registry: Registry
    inventory: Inventory
    config: Config
    prover: Prover
    ledger: Ledger
    sources: dict[str, str] = field(default_factory=dict)
    threads: int = 1
    progress: Progress = lambda what: None

    def negotiate(self, name: str) -> Slate:
        """Decide who serves an operation."""
        op = self.registry.operation(name)
        terms = Terms(
            op=op,
            demand=self.config.op(name),
            inventory=self.inventory,
            threads=self.threads,
            memory_limit=self.config.memory_limit_mb and self.config.memory_limit_mb * 1e6,
            sources=self.sources,
        )
        candidates = self.registry.candidates(name)
        for candidate in candidates:
            screen(candidate, terms)
        for candidate in candidates:
            if not candidate.rejected:
                self.certify(op, candidate)
        proven = [candidate for candidate in candidates if not candidate.rejected]
        order = rank(proven, terms.demand, self.config.select)
        slate = Slate(op, Decision(name, order))
        self._bind(slate)
        serving = [c for c in order if c.verdict is not Verdict.REJECTED]
        refused = sorted((c for c in candidates if c.verdict is Verdict.REJECTED), key=lambda c: c.id)
        slate.decision = Decision(name, [*serving, *refused])
        for candidate in refused:
            reason = candidate.reasons[-1]
            emit(
                logging.WARNING if reason.code in _ALARMING else logging.INFO,
                "candidate.rejected",
                candidate=candidate.id,
                code=reason.code.value,
                reason=reason.message,
            )
        emit(
            logging.INFO if serving else logging.WARNING,
            "op.negotiated",
            op=name,
            chosen=slate.decision.chosen,
            standby=len(serving) - 1 if serving else 0,
            rejected=len(refused),
            reason=serving[0].reasons[-1].message if serving else "nothing can serve",
        )
        return slate

    def certify(self, op: Operation[Any, Any], candidate: Candidate, *, anew: bool = False) -> None:
        """Give a candidate its certificate, from the ledger or by proof; or reject it."""
        mode = self.config.proof.mode
        if mode == "off":
            candidate.reasons.append(
                Reason(ReasonCode.UNPROVEN, "not proved: proof.mode is 'off'", 'set [proof] mode = "cached"')
            )
            return
        key: dict[str, str] = {}
        certificate = None
        if not candidate.live:
            key = fingerprint(op, str(self.registry.owners[op.name]), candidate)
            certificate = None if mode == "always" or anew else self.ledger.find(key)
        try:
            if certificate is None:
                certificate = self._prove(op, candidate, key, anew)
        except ProofFailed as failure:
            candidate.reject(failure.code, failure.message, failure.remedy)
            return
        candidate.certificate, candidate.seconds = certificate, certificate.seconds

    def _prove(
        self, op: Operation[Any, Any], candidate: Candidate, key: dict[str, str], anew: bool
    ) -> Certificate:
        changed = "" if candidate.live else self.ledger.why_not(key)
        if self.config.proof.mode == "frozen":
            raise ProofFailed(
                ReasonCode.NO_CERTIFICATE,
                f"no valid certificate, and proof.mode is 'frozen'{': ' + changed if changed else ''}",
                f"run `assay prove {candidate.id}` on this machine",
            )
        self.progress(candidate.id)
        if candidate.live:
            return self.prover.prove(op, candidate)
        with self.ledger.lock(key, self.config.proof.timeout_s):
            if not anew and self.config.proof.mode != "always" and (found := self.ledger.find(key)):
                return found  # another process proved it while this one waited
            proved = self.prover.prove(op, candidate)
            certificate = Certificate(
                id=proved.id,
                seed=proved.seed,
                accuracy=proved.accuracy,
                measurements=proved.measurements,
                seconds=proved.seconds,
                made=proved.made,
                key=key,
            )
            self.ledger.write(certificate)
        if changed:
            candidate.reasons.append(Reason(ReasonCode.REPROVED, f"proved anew: {changed}"))
        return certificate

    def _bind(self, slate: Slate) -> None:
        """Load the first that holds here too, and the first standby that costs no import of a library."""
        for candidate in slate.decision.candidates:
            chosen = not slate.kernels
            if not chosen and candidate.implementation.capabilities.requires.packages:
                continue
            try:
                slate.kernels[candidate.id] = self.load(slate.op, candidate)
            except ProofFailed as failure:
                candidate.reject(failure.code, f"in this process: {failure.message}", failure.remedy)
                continue
            if chosen and candidate.verdict is Verdict.STANDBY:
                candidate.verdict, candidate.state = Verdict.CHOSEN, State.SERVING
                candidate.reasons.append(Reason(ReasonCode.BEST, "the best that also loads in this process"))
            if len(slate.kernels) == 2:
                return

    def load(self, op: Operation[Any, Any], candidate: Candidate) -> Kernel:
        """Load a proven candidate in this process and hold it against one probe.

        Raises:
            ProofFailed: It does not load, or is not here what its certificate says.
        """
        assert candidate.plan is not None
        kernel = load(op, candidate, candidate.plan)
        if self.config.proof.mode != "off":
            try:
                prove_once(kernel)
            except ProofFailed:
                kernel.close()
                raise
        return kernel


_ALARMING = frozenset(
    {
        ReasonCode.DUPLICATE,
        ReasonCode.INVALID_DECLARATION,
        ReasonCode.ARTIFACT_CHANGED,
        ReasonCode.LOAD_FAILED,
        ReasonCode.OPEN_FAILED,
        ReasonCode.UNPROVABLE,
        ReasonCode.INACCURATE,
        ReasonCode.RAISED,
        ReasonCode.CRASHED,
        ReasonCode.TIMED_OUT,
    }
)
"""Reasons that mean a plugin is wrong, rather than that this machine lacks something."""
