"""Who may serve an operation under one configuration, and who of them takes a signature."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from assay.config import Config, FallbackConfig
from assay.contract.errors import NoImplementation
from assay.contract.naming import selects
from assay.contract.operation import Array, Arrays, Items, Operation, Params, Spec
from assay.contract.reasons import ReasonCode
from assay.negotiation.domain import CompiledDomain, Refusal
from assay.negotiation.negotiate import Slate
from assay.scheduler.route import Leg, Route
from assay.scheduler.server import Server

SHARES = 1024
"""Kinds of items that are remembered; beyond, all are forgotten, and older requests share with older ones."""


@dataclass(slots=True, eq=False)
class Roster:
    """One decision put to work. A reload replaces it as a whole, so that nobody sees half of one."""

    slate: Slate
    config: Config
    servers: Sequence[Server]
    preset: str = ""
    limit: int = 0
    """Requests that may wait in the queue."""
    _domains: dict[str, CompiledDomain] = field(default_factory=dict)
    _shares: dict[Any, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.preset = self.config.op(self.op.name).preset or self.config.preset
        self.limit = self.config.queue.limit

    @property
    def policy(self) -> FallbackConfig:
        """What follows when a kernel fails."""
        return self.config.fallback

    @property
    def op(self) -> Operation[Any, Any]:
        """The operation."""
        return self.slate.op

    @property
    def active(self) -> list[Server]:
        """Who may serve now, best first."""
        return [server for server in self.servers if not server.quarantined]

    def route(self, inputs: Arrays, params: Params, require: str | None = None) -> Route:
        """Check a request's signature and find who takes it.

        Someone in quarantine is asked only where nobody else takes the signature, and not where the program
        requires an implementation: that fails closed.

        Raises:
            InvalidInput: It is no request of this operation.
            NoImplementation: Nobody takes it; with every reason.
        """
        asked = [s for s in self.servers if require is None or selects(require, s.candidate.id)]
        answers = list(self.legs(inputs, params, asked))
        legs = [leg for server, leg in answers if isinstance(leg, Leg) and not server.quarantined]
        if not legs and require is None:
            legs = [leg for _, leg in answers if isinstance(leg, Leg)]
        main = inputs[0]
        assert main is not None
        if not legs:
            why = [
                (server.candidate.id, "it is in quarantine" if isinstance(leg, Leg) else leg[1])
                for server, leg in answers
            ]
            raise NoImplementation(self._nobody(inputs, params, why, require), self.slate.decision)
        return Route(self.op, params, legs[0].promised, legs, main.dtype, require, self.policy)

    def legs(
        self, inputs: Arrays, params: Params, servers: Iterable[Server] | None = None
    ) -> Iterator[tuple[Server, Leg | Refusal]]:
        """What each server says to a signature.

        Raises:
            InvalidInput: It is none of this operation.
        """
        op = self.op
        spec = op.infer(*inputs[: len(op.required)], **op.keywords(inputs, params))
        for server in self.servers if servers is None else servers:
            yield server, self._leg(server, inputs, params, spec)

    def _leg(self, server: Server, inputs: Arrays, params: Params, spec: Spec) -> Leg | Refusal:
        op, main = self.op, inputs[0]
        assert main is not None
        capabilities = server.candidate.implementation.capabilities
        names = [main.dtype.name, *op.converts.get(main.dtype.name, ())]
        name = next((name for name in names if name in capabilities.dtypes), names[0])
        dtype = None if name == main.dtype.name else np.dtype(name)
        shaped, kernel_spec = inputs, spec
        if dtype is not None:
            shaped = tuple(
                array if array is None or array.dtype != main.dtype else _shape_only(array, dtype)
                for array in inputs
            )
            kernel_spec = op.infer(*shaped[: len(op.required)], **op.keywords(shaped, params))
        try:
            refusal = self._domain(server).refuses(name, shaped, params)
        except Exception as error:  # noqa: BLE001  # a predicate may raise anything
            return (
                ReasonCode.SHAPE_UNSUPPORTED,
                f"its shapes predicate raised {type(error).__name__}: {error}",
            )
        if refusal is not None:
            return refusal
        leg = Leg(
            server=server,
            op=op,
            params=params,
            spec=kernel_spec,
            promised=spec,
            dtype=dtype,
            work=op.work(inputs, params),
            check=self.policy.check,
        )
        if capabilities.form == "items" and op.items is not None:
            items = op.items.split(shaped, params, item_shape=capabilities.item_shape, out=None)
            leg.items = items.count
            leg.item_params = params if op.items.params is None else op.items.params(shaped, params)
            leg.share = self._share(server, items, kernel_spec, leg.item_params) if items.count else None
        return leg

    def _share(self, server: Server, items: Items, spec: Spec, params: Params) -> object:
        """What requests have in common whose items may share a block: the same object for all of them."""
        values = tuple((name, type(value), value) for name, value in sorted(params.items()))
        key = server, items.shapes, items.result_shape, spec.dtype, values
        if len(self._shares) >= SHARES:
            self._shares.clear()
        try:
            return self._shares.setdefault(key, object())
        except TypeError:  # an array among the parameters: such a request shares with nobody
            return object()

    def _domain(self, server: Server) -> CompiledDomain:
        id = server.candidate.id
        if id not in self._domains:
            self._domains[id] = CompiledDomain(self.op, server.candidate.implementation.capabilities)
        return self._domains[id]

    def _nobody(
        self,
        inputs: Arrays,
        params: Params,
        refusals: Sequence[tuple[str, str]],
        require: str | None,
    ) -> str:
        shapes = ", ".join(
            f"{item.name} {array.dtype} {array.shape}"
            for item, array in zip(self.op.inputs, inputs, strict=True)
            if array is not None
        )
        terms = ", ".join([shapes, *(f"{name}={value!r}" for name, value in params.items())])
        wanted = f" (required: {require!r})" if require else ""
        return "\n".join(
            [
                f"{self.op.name}: no implementation takes {terms}{wanted}",
                *(f"  {id}: {message}" for id, message in refusals),
                str(self.slate.decision),
            ]
        )


def _shape_only(array: Array, dtype: np.dtype[Any]) -> Array:
    """An array of a shape and dtype that holds no memory of its own."""
    return np.broadcast_to(np.zeros((), dtype), array.shape)
