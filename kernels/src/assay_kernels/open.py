"""Opens the compiled kernels: the functions of one module, with the number of threads settled."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import assay

Kernel = Callable[..., Any]


class InstructionSet:
    """The kernels compiled for one instruction set. A module is imported when its first kernel is opened.

    Args:
        name: The module's name in this package, without its underscore.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def mel(self, device: assay.Device, plan: assay.Plan) -> Kernel:
        """``log_mel``, whole form."""
        return self._open("log_mel", plan)

    def gelu(self, device: assay.Device, plan: assay.Plan) -> Kernel:
        """``gelu``, whole form."""
        return self._open("gelu", plan)

    def attention(self, device: assay.Device, plan: assay.Plan) -> Kernel:
        """``attention``, whole form."""
        return self._open("attention", plan)

    def module(self) -> ModuleType:
        """The extension module.

        Raises:
            ImportError: It was not built on this machine, or does not load.
        """
        target = f"{__package__}._{self.name}"
        try:
            return importlib.import_module(target)
        except ModuleNotFoundError as error:
            if error.name != target:
                raise
            raise ImportError(
                f"{target} is not there: assay-kernels was installed without the module compiled for "
                f"{self.name}. Install a C++17 compiler (GCC 12 or Clang 16, or newer) and "
                "reinstall assay-kernels from its source"
            ) from error

    def _open(self, function: str, plan: assay.Plan) -> Kernel:
        kernel: Kernel = getattr(self.module(), f"open_{function}")(plan.threads)
        return kernel


avx512 = InstructionSet("avx512")
avx2 = InstructionSet("avx2")
baseline = InstructionSet("baseline")
