"""The one path: funnel, proof, certificate, rank, load, one probe here, bind."""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from assay.config import Config
from assay.contract.candidate import Candidate, Certificate, Decision, State, Verdict
from assay.contract.errors import InvalidInput
from assay.contract.log import emit
from assay.contract.operation import Operation
from assay.contract.reasons import FAULTS, Reason, ReasonCode
from assay.devices.cpu import usable_cores
from assay.devices.inventory import Inventory
from assay.negotiation.fingerprint import fingerprint
from assay.negotiation.installed import Installed
from assay.negotiation.kernel import Kernel
from assay.negotiation.ledger import Ledger, Race
from assay.negotiation.loading import load
from assay.negotiation.proof import ProofFailed, prove_once
from assay.negotiation.prover import Prover, within
from assay.negotiation.rank import rank, say_why, static_key
from assay.negotiation.screen import Terms, screen
from assay.registry import Registry

Progress = Callable[[str], None]

CHANCE = 3.0
"""A candidate whose first figure is this many times the best one's is not timed again."""


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
    installed: Installed = field(default_factory=Installed)
    neighbours: dict[str, list[Kernel]] = field(default_factory=dict)
    """The kernels that are open on each device."""

    def negotiate(self, name: str) -> Slate:
        """Decide who serves one operation."""
        return self.negotiate_all([name])[name]

    def negotiate_all(self, names: Iterable[str]) -> dict[str, Slate]:
        """Decide who serves each operation. Proofs of all of them come first: they share the workers."""
        screened = {name: self.screened(name) for name in names}
        self._certify_all([candidate for candidates in screened.values() for candidate in candidates])
        return {name: self._decide(name, candidates) for name, candidates in screened.items()}

    def screened(self, name: str) -> list[Candidate]:
        """An operation's candidates, after the cheap tests."""
        terms = Terms(
            op=self.registry.operation(name),
            demand=self.config.op(name),
            inventory=self.inventory,
            threads=self.threads,
            memory_limit=self.config.memory_limit_mb and self.config.memory_limit_mb * 1e6,
            sources=self.sources,
            installed=self.installed,
        )
        candidates = self.registry.candidates(name)
        for candidate in candidates:
            screen(candidate, terms)
        return candidates

    def _certify_all(self, candidates: Sequence[Candidate]) -> None:
        """Those that need proofs go to two workers, which run at the same time where there are two cores.

        Whoever needs the same libraries goes to the same worker: none is imported twice.
        """
        groups: dict[tuple[str, ...], list[Candidate]] = {}
        for candidate in candidates:
            op = self.registry.operation(candidate.implementation.op)
            if not candidate.rejected and not self._recall(op, candidate):
                packages = candidate.implementation.capabilities.requires.packages
                groups.setdefault(packages, []).append(candidate)
        waiting = deque(groups[packages] for packages in sorted(groups))

        def work(lane: int) -> None:
            with contextlib.suppress(IndexError):
                while True:
                    for candidate in waiting.pop() if lane else waiting.popleft():
                        op = self.registry.operation(candidate.implementation.op)
                        self._assay(op, candidate, lane=lane)

        other = ThreadPoolExecutor(1, "assay-proofs")
        try:
            done = other.submit(work, 1) if len(groups) > 1 and usable_cores() > 1 else None
            work(0)
            if done is not None:
                done.result()
        finally:
            waiting.clear()
            other.shutdown(wait=False)

    def _decide(self, name: str, candidates: Sequence[Candidate]) -> Slate:
        op, demand = self.registry.operation(name), self.config.op(name)
        proven = [candidate for candidate in candidates if not candidate.rejected]
        self._time(op, proven)
        order = rank(proven, demand, self.config.select)
        slate = Slate(op, Decision(name, order))
        self._bind(slate)
        serving = [c for c in order if c.verdict is not Verdict.REJECTED]
        say_why(serving, demand, self.config.select)
        refused = sorted((c for c in candidates if c.verdict is Verdict.REJECTED), key=lambda c: c.id)
        slate.decision = Decision(name, [*serving, *refused])
        for candidate in refused:
            reason = candidate.reasons[-1]
            emit(
                logging.WARNING if reason.code in FAULTS else logging.INFO,
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
        """Give a candidate its certificate, from the ledger or by proof in a worker; or reject it."""
        if anew or not self._recall(op, candidate):
            self._assay(op, candidate, anew=anew)

    def _assay(
        self, op: Operation[Any, Any], candidate: Candidate, *, anew: bool = False, lane: int = 0
    ) -> None:
        """Have a candidate proved, or reject it."""
        try:
            self._settle(candidate, self._prove(op, candidate, anew, lane))
        except ProofFailed as failure:
            candidate.reject(failure.code, failure.message, failure.remedy)

    def _recall(self, op: Operation[Any, Any], candidate: Candidate) -> bool:
        """Whether a candidate needs no proof: it has a valid certificate, or nothing is proved."""
        mode = self.config.proof.mode
        if mode == "off":
            candidate.reasons.append(
                Reason(ReasonCode.UNPROVEN, "not proved: proof.mode is 'off'", 'set [proof] mode = "cached"')
            )
        elif candidate.live or mode == "always" or not (found := self.ledger.find(self._key(op, candidate))):
            return False
        else:
            self._settle(candidate, found)
        return True

    def _key(self, op: Operation[Any, Any], candidate: Candidate) -> dict[str, str]:
        return fingerprint(op, str(self.registry.owners[op.name]), candidate, self.installed)

    @staticmethod
    def _settle(candidate: Candidate, certificate: Certificate) -> None:
        candidate.certificate, candidate.seconds = certificate, certificate.seconds

    def _prove(self, op: Operation[Any, Any], candidate: Candidate, anew: bool, lane: int) -> Certificate:
        """Prove a candidate, or wait for another process that does.

        Raises:
            ProofFailed: It fails, or may not be proved.
        """
        frozen = self.config.proof.mode == "frozen"
        if candidate.live:
            if frozen:
                raise _refused("install it as a plugin: a live object has no certificate")
            self.progress(candidate.id)
            return self.prover.prove(op, candidate, lane)
        key = self._key(op, candidate)
        if changed := self.ledger.why_not(key):
            told = "its certificate is void" if frozen else "proved anew, since its certificate was void"
            candidate.reasons.append(Reason(ReasonCode.REPROVED, f"{told}: {changed}"))
        if frozen:
            raise _refused(f"run `assay prove {candidate.id}` on this machine")
        with self._alone(candidate.id):
            if not anew and self.config.proof.mode != "always" and (found := self.ledger.find(key)):
                return found  # another process proved it while this one waited
            self.progress(candidate.id)
            certificate = replace(self.prover.prove(op, candidate, lane), key=key)
            self.ledger.write(certificate)
        return certificate

    def _alone(self, name: str) -> contextlib.AbstractContextManager[None]:
        """Of many processes that start at once, one does this and the others wait."""
        return self.ledger.lock(name, self.config.proof.timeout_s)

    def _time(self, op: Operation[Any, Any], proven: Sequence[Candidate]) -> None:
        """Give candidates comparable figures where it matters: of their last race, or of one run now."""
        racers = [c for c in proven if not c.live and c.certificate is not None and c.seconds is not None]
        race = self.ledger.race(op.name, racers) if len(racers) > 1 else None
        if race is None and len(racers) > 1 and self.config.proof.mode != "frozen":
            tuned = self.ledger.tuned(op.name)
            near = racers if tuned is not None else self._contenders(op.name, racers)
            if len(near) > 1:
                with self._alone(f"{op.name}.race"):
                    race = self.ledger.race(op.name, racers) or self._race(op, racers, near, tuned)
        if race is not None:
            for candidate in racers:
                candidate.seconds = race.seconds.get(candidate.id)

    def _contenders(self, name: str, racers: Sequence[Candidate]) -> list[Candidate]:
        """Those who may turn out the fastest; none where the first figures leave no doubt who serves."""
        demand, select = self.config.op(name), self.config.select
        first = {c: c.seconds for c in racers if c.seconds is not None}
        least = min(first.values())
        top = min(racers, key=lambda candidate: static_key(candidate, demand))
        if select == "priority" or (select == "auto" and first[top] == least):
            return []
        return [c for c in racers if c is top or first[c] <= CHANCE * least]

    def _race(
        self,
        op: Operation[Any, Any],
        racers: Sequence[Candidate],
        near: Sequence[Candidate],
        tuned: Race | None,
    ) -> Race | None:
        """Time candidates in turns, on the workload that was last tuned for, if any."""
        first = {c.id: c.seconds for c in racers if c.seconds is not None and tuned is None}
        race = replace(tuned or Race(op.name, {}), seconds=first)
        self.progress(f"{op.name}, {len(near)} candidates in turns")
        try:
            figures = self.prover.race(op, near, race.shapes, race.params)
        except (ProofFailed, InvalidInput) as error:
            # A crash of what was proved is news. That there was no time is none: the proofs' figures decide.
            crashed = isinstance(error, ProofFailed) and error.code is ReasonCode.CRASHED
            level = logging.WARNING if crashed else logging.INFO
            emit(level, "race.failed", op=op.name, error=str(error), used="the figures of the proofs")
            return None
        # Whatever disturbs a figure makes it larger: the smaller one is nearer to the truth.
        figures = {id: min(seconds, first.get(id, seconds)) for id, seconds in figures.items()}
        race = replace(race, seconds={**first, **figures})
        self.ledger.write_race(race, racers)
        return race

    def _bind(self, slate: Slate) -> None:
        """Load the first that holds here too, and the first standby that costs no import of a library."""
        for candidate in slate.decision.candidates:
            chosen = not slate.kernels
            if not chosen and candidate.implementation.capabilities.requires.packages:
                continue
            try:
                kernel = self.load(slate.op, candidate)
                self._meet_neighbours(kernel)
            except ProofFailed as failure:
                candidate.reject(failure.code, f"in this process: {failure.message}", failure.remedy)
                continue
            slate.kernels[candidate.id] = kernel
            if chosen and candidate.verdict is Verdict.STANDBY:
                candidate.verdict, candidate.state = Verdict.CHOSEN, State.SERVING
            if len(slate.kernels) == 2:
                return

    def load(self, op: Operation[Any, Any], candidate: Candidate) -> Kernel:
        """Load a proven candidate in this process and hold it against one probe, within the deadline.

        Raises:
            ProofFailed: It does not load, or is not here what its certificate says.
        """
        plan, proof = candidate.plan, self.config.proof
        assert plan is not None

        def work() -> Kernel:
            kernel = load(op, candidate, plan)
            if proof.mode != "off":
                try:
                    prove_once(kernel)
                except BaseException:
                    kernel.close()
                    raise
            return kernel

        return within(work, proof.timeout_s, "loading it")

    def _meet_neighbours(self, kernel: Kernel) -> None:
        """A kernel that is opened on a device must leave those that are open there as they were.

        Raises:
            ProofFailed: Another one is wrong now; this one is closed again.
        """
        device = kernel.plan.device
        if device.kind == "cpu" or self.config.proof.mode == "off":
            return
        for other in self.neighbours.setdefault(device.id, []):
            try:
                prove_once(other)
            except ProofFailed as failure:
                kernel.close()
                raise ProofFailed(
                    failure.code,
                    f"with it open, {other.implementation.id} is wrong: {failure.message}",
                    f"deny one of the two in [ops.{kernel.op.name}] or [ops.{other.op.name}]",
                ) from failure
        self.neighbours[device.id].append(kernel)


def _refused(remedy: str) -> ProofFailed:
    return ProofFailed(
        ReasonCode.NO_CERTIFICATE, "it has no valid certificate, and proof.mode is 'frozen'", remedy
    )
