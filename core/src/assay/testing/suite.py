"""The proof as a pytest suite: inherit it, name an implementation, and the gate is part of your tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pytest

from assay.config import Config, OpConfig
from assay.contract.candidate import Candidate
from assay.contract.errors import NoImplementation
from assay.contract.operation import Operation
from assay.contract.reasons import ReasonCode
from assay.devices.cpu import usable_cores
from assay.devices.inventory import Inventory
from assay.negotiation.compare import compare
from assay.negotiation.exam import Exam, ProofFailed
from assay.negotiation.loading import certify
from assay.negotiation.prover import Prover
from assay.negotiation.screen import Terms, screen
from assay.registry import discover
from assay.runtime import Runtime

NOT_HERE = frozenset(
    {
        ReasonCode.DEVICE_ABSENT,
        ReasonCode.DEVICE_BUSY,
        ReasonCode.DEVICE_NOT_PERMITTED,
        ReasonCode.DEVICE_GENERATION,
        ReasonCode.CPU_FEATURE_MISSING,
        ReasonCode.DRIVER_VERSION,
        ReasonCode.PACKAGE_MISSING,
        ReasonCode.PACKAGE_VERSION,
    }
)
"""Reasons that say something of the machine, not of the implementation: its tests are skipped."""


class ImplementationSuite:
    """Proves one implementation, as a start does.

    ::

        class TestMine(assay.testing.ImplementationSuite):
            implementation = "gelu.mine"

    Attributes:
        implementation: Its id.
        plugins: Plugin objects that offer it, where no installed package does.
    """

    implementation: ClassVar[str]
    plugins: ClassVar[Sequence[Any]] = ()

    @pytest.fixture(scope="class")
    def offer(self) -> tuple[Operation[Any, Any], Candidate]:
        """The operation and the screened candidate; skips what this machine cannot run."""
        registry = discover(live=self.plugins)
        name = self.implementation.split(".")[0]
        op = registry.operation(name)
        found = [c for c in registry.candidates(name) if c.id == self.implementation]
        problems = [f"{plugin.name}: {problem}" for plugin in registry.plugins for problem in plugin.problems]
        ids = ", ".join(candidate.id for candidate in registry.candidates(name))
        assert found, f"nobody offers {self.implementation}; offered are {ids}. {' '.join(problems)}"
        demand = OpConfig(accuracy=found[0].implementation.capabilities.accuracy)
        candidate = found[0]
        screen(candidate, Terms(op, demand, Inventory(registry.drivers), usable_cores()))
        if candidate.rejected and candidate.reasons[-1].code in NOT_HERE:
            pytest.skip(str(candidate.reasons[-1]))
        assert not candidate.rejected, str(candidate.reasons[-1])
        return op, candidate

    @pytest.mark.parametrize("seed", range(3))
    def test_it_passes_its_proof(self, offer: tuple[Operation[Any, Any], Candidate], seed: int) -> None:
        """It is right on everything that its declaration covers, whatever the probes hold."""
        op, candidate = offer
        assert candidate.plan is not None
        try:
            certify(op, candidate, candidate.plan, Exam(seed))
        except ProofFailed as failure:
            pytest.fail(f"{failure.message}\n-> {failure.remedy}", pytrace=False)

    def test_it_passes_in_a_process_of_its_own(self, offer: tuple[Operation[Any, Any], Candidate]) -> None:
        """Another process finds it, loads it and proves it within the deadline."""
        op, candidate = offer
        prover = Prover({"plugins": {}, "devices": {}}, timeout_s=60.0)
        try:
            prover.prove(op, candidate)
        except ProofFailed as failure:
            pytest.fail(f"{failure.message}\n-> {failure.remedy}", pytrace=False)
        finally:
            prover.close()

    def test_it_serves(self, offer: tuple[Operation[Any, Any], Candidate]) -> None:
        """A runtime that requires it serves the standard workload with it."""
        op, candidate = offer
        accuracy = candidate.implementation.capabilities.accuracy
        probe = op.standard(np.random.default_rng(0))
        demand = OpConfig(require=candidate.implementation.name, accuracy=accuracy)
        # Proved above: a second time would tell nothing new.
        config = Config.model_validate({"ops": {op.name: demand}, "proof": {"mode": "off"}})
        with Runtime(config, plugins=self.plugins, ops=[op.name]) as runtime:
            bound = runtime.op(op.name)
            assert bound.serving == candidate.id
            try:
                result = bound(*probe.inputs[: len(op.required)], **op.keywords(probe.inputs, probe.params))
            except NoImplementation as error:
                pytest.skip(f"it does not take the standard workload: {error}")
        expected = op.expect(probe)
        limit = op.tolerance(probe.kind, probe.inputs, probe.params, expected, accuracy)
        assert compare("standard", result, expected, limit).wrong == ""
