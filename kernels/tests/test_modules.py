"""What the compiled modules contain: no set's code in another's."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.skipif(shutil.which("objdump") is None, reason="reading machine code takes binutils"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="these are the sets of x86-64"),
]

VECTOR_REGISTER = re.compile(r"%([xyz]mm\d+)")
VEX = re.compile(r"\tv[a-z0-9]+ ")  # AVX's mnemonics begin with v
NOT_VEX = re.compile(r"\tver[rw] ")


def instructions(path: Path) -> list[str]:
    command = ["objdump", "--disassemble", "--no-show-raw-insn", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def test_baseline_has_no_avx(module_path: Callable[[str], Path]) -> None:
    """Every x86-64 CPU can run every instruction of the baseline module."""
    avx = [
        line
        for line in instructions(module_path("baseline"))
        if (VEX.search(line) and not NOT_VEX.search(line)) or "%ymm" in line or "%zmm" in line
    ]

    assert avx == []


def test_avx2_has_no_avx512(module_path: Callable[[str], Path]) -> None:
    """The AVX2 module has 256-bit vectors and fused arithmetic, and nothing of AVX-512."""
    code = instructions(module_path("avx2"))

    assert sum("vfmadd" in line and "%ymm" in line for line in code) > 100
    assert [line for line in code if "%zmm" in line or "%k1" in line] == []


def test_avx512_has_512_bit_vectors(module_path: Callable[[str], Path]) -> None:
    """The AVX-512 module computes in 512-bit vectors."""
    code = instructions(module_path("avx512"))

    arithmetic = [line for line in code if re.search(r"\tv(fn?m(add|sub)\d+|add|sub|mul)ps ", line)]
    widths = [max(VECTOR_REGISTER.findall(line), default="", key=lambda name: name[0]) for line in arithmetic]
    assert sum(width.startswith("zmm") for width in widths) > 0.9 * len(widths)


@pytest.mark.parametrize("name", ["baseline", "avx2", "avx512"])
def test_only_the_entry_is_exported(module_path: Callable[[str], Path], name: str) -> None:
    """No symbol but Python's entry is visible, so that the dynamic linker can't mix the sets' functions."""
    command = ["objdump", "--dynamic-syms", str(module_path(name))]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    defined = {line.split()[-1] for line in table.splitlines() if re.match(r"[0-9a-f]{16} ", line)}
    undefined = {line.split()[-1] for line in table.splitlines() if "*UND*" in line}
    assert defined - undefined == {f"PyInit__{name}"}
