"""The declared domain of an implementation, compiled for routing and for its proof."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from assay.contract.capabilities import Capabilities
from assay.contract.errors import InvalidInput
from assay.contract.operation import Arrays, Operation, Params
from assay.contract.reasons import ReasonCode
from assay.negotiation.target import resolve

Refusal = tuple[ReasonCode, str]


class CompiledDomain:
    """Answers whether an implementation takes a request, and what its probes may use.

    Raises:
        ValueError: The declaration names a parameter that the operation does not have,
            or a shapes predicate that cannot be called with the operation's inputs.
        Exception: Whatever importing the shapes predicate raises.
    """

    def __init__(self, op: Operation[..., Any], capabilities: Capabilities) -> None:
        self.op = op
        self.capabilities = capabilities
        self.dtypes = tuple(sorted(capabilities.dtypes))
        for name in capabilities.params:
            if name not in op.defaults:
                raise ValueError(f"params names {name!r}; {op.name} has {', '.join(op.defaults) or 'none'}")
        if capabilities.form == "items" and op.items is None:
            raise ValueError(f"form='items', but {op.name} takes whole kernels only")
        if capabilities.item_shape is not None and not (op.items and op.items.chooses_shape):
            raise ValueError(f"item_shape is given, but {op.name} fixes the shape of its items")
        predicate = resolve(capabilities.shapes) if capabilities.shapes is not None else None
        self._shapes = predicate and _adapt(op, predicate)

    def values(self, param: str, usual: Sequence[Any]) -> tuple[Any, ...]:
        """The declared values of a parameter, or the usual ones where it is free."""
        declared = self.capabilities.params.get(param)
        return tuple(usual) if declared is None else tuple(sorted(declared, key=repr))

    def takes_dtype(self, name: str) -> bool:
        """Whether the kernel takes this dtype as it is."""
        return name in self.capabilities.dtypes

    def refuses(self, dtype: str, inputs: Arrays, params: Params) -> Refusal | None:
        """Why a request is outside the domain, or None. ``dtype`` is the main input's, after conversion."""
        if dtype not in self.capabilities.dtypes:
            return ReasonCode.DTYPE_UNSUPPORTED, f"takes {', '.join(self.dtypes)}, not {dtype}"
        for name, declared in self.capabilities.params.items():
            if params[name] not in declared:
                names = ", ".join(sorted(map(repr, declared)))
                return ReasonCode.PARAMETER_UNSUPPORTED, f"takes {name} in {{{names}}}, not {params[name]!r}"
        if self._shapes is not None:
            answer = self._shapes(inputs, params)
            if answer is not True and not (isinstance(answer, np.bool_) and answer):
                why = answer if isinstance(answer, str) and answer else "its shapes predicate says no"
                return ReasonCode.SHAPE_UNSUPPORTED, why
        if self.capabilities.item_shape is not None and self.op.items is not None:
            try:
                self.op.items.split(inputs, params, item_shape=self.capabilities.item_shape, out=None)
            except InvalidInput as error:
                return ReasonCode.SHAPE_UNSUPPORTED, str(error)
        return None


def _adapt(op: Operation[..., Any], predicate: Callable[..., Any]) -> Callable[[Arrays, Params], Any]:
    """Call a predicate with the shapes of the required inputs, and by keyword with what else it names."""
    parameters = inspect.signature(predicate).parameters.values()
    everything = any(p.kind is p.VAR_KEYWORD for p in parameters)
    many = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = len(op.required)
    if len(positional) < required and not many:
        names = ", ".join(item.name for item in op.required)
        raise ValueError(f"the shapes predicate must take the shapes of {names}, in this order")
    named = {p.name for p in positional[required:]} | {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    known = {item.name for item in op.optional} | set(op.defaults)
    if unknown := named - known - {p.name for p in parameters if p.default is not p.empty}:
        asked, has = ", ".join(sorted(unknown)), ", ".join(sorted(known))
        raise ValueError(f"the shapes predicate asks for {asked}; {op.name} has {has}")

    def ask(inputs: Arrays, params: Params) -> Any:
        shapes = [None if array is None else array.shape for array in inputs]
        extra: Mapping[str, Any] = op.keywords(tuple(shapes), params)  # type: ignore[arg-type]  # shapes for arrays
        chosen = extra if everything else {name: extra[name] for name in named & known}
        return predicate(*shapes[:required], **chosen)

    return ask
