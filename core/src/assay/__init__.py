"""Assay: compute kernels are assayed before they serve."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.public import *  # noqa: F403  # its __all__ says which

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Importing Assay costs next to nothing: its public names load when the first of them is asked for.
    if name == "__all__" or not name.startswith("_"):
        from importlib import import_module

        public = import_module("assay.public")
        globals().update({known: getattr(public, known) for known in ("__all__", *public.__all__)})
        if name in globals():
            return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__getattr__("__all__")]
