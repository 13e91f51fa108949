"""An offer to fulfil an operation: a name, a priority, a domain, and where the code is."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from assay.contract.capabilities import Capabilities

NAME = re.compile(r"[a-z0-9][a-z0-9_-]*\Z")
TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*\Z")


class Implementation(BaseModel):
    """An offer to fulfil an operation. Nothing is imported until its turn comes.

    Args:
        op: The operation's name.
        name: This implementation's name; its id is ``op.name``.
        priority: Higher is tried first: 0 reference, 20 portable, 40 backed by a library,
            60 native, 80 device.
        kernel: A stateless callable, or where it is: "pkg.mod:fn".
        opener: ``open_fn(device, plan)`` (or where it is) that returns the callable,
            which may have ``close()``. Exactly one of ``kernel`` and ``opener`` is given.
        capabilities: What it takes and what it needs.
        description: One line for listings.

    Raises:
        pydantic.ValidationError: A field does not hold what it should (a ValueError).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    op: str
    name: str
    priority: int = 20
    kernel: str | Callable[..., Any] | None = None
    opener: str | Callable[..., Any] | None = None
    capabilities: Capabilities = Field(default_factory=Capabilities)
    description: str = ""

    @property
    def id(self) -> str:
        """``op.name``, unique in a runtime."""
        return f"{self.op}.{self.name}"

    @field_validator("op", "name")
    @classmethod
    def _is_name(cls, value: str) -> str:
        if not NAME.match(value):
            raise ValueError(f"{value!r} is not a name: use lower-case letters, digits, '-' and '_'")
        return value

    @field_validator("kernel", "opener")
    @classmethod
    def _is_target(cls, value: Any) -> Any:
        if isinstance(value, str) and not TARGET.match(value):
            raise ValueError(f"{value!r} does not say where the code is: write 'package.module:function'")
        return value

    @model_validator(mode="after")
    def _one_of_two(self) -> Implementation:
        if (self.kernel is None) == (self.opener is None):
            given = "both" if self.kernel is not None else "neither"
            raise ValueError(f"{self.op}.{self.name}: give exactly one of kernel= and opener=, got {given}")
        return self
