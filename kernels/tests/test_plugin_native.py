"""What the plugin declares, and what happens when a module that it names isn't there."""

from __future__ import annotations

import importlib
import itertools
import platform
import subprocess
import sys
from pathlib import Path

import assay
import pytest
from assay_kernels import open as opening
from assay_kernels import plugin


def declared() -> dict[str, assay.Implementation]:
    return {implementation.id: implementation for implementation in plugin.assay_implementations()}


def test_each_operation_on_each_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """On x86-64 three sets are offered for three operations, the wider above the narrower."""
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")

    found = declared()

    sets = ("native-avx512", "native-avx2", "native-baseline")
    assert set(found) == {f"{op}.{name}" for op in ("mel", "gelu", "attention") for name in sets}
    for op in ("mel", "gelu", "attention"):
        priorities = [found[f"{op}.{name}"].priority for name in sets]
        assert priorities == sorted(set(priorities), reverse=True)
        assert all(60 <= priority < 80 for priority in priorities)


def test_other_machines_have_the_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere the baseline alone is offered, and it requires nothing."""
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")

    found = declared()

    assert set(found) == {"mel.native-baseline", "gelu.native-baseline", "attention.native-baseline"}
    assert all(not i.capabilities.requires.features for i in found.values())


def test_features_are_those_of_the_build() -> None:
    """A set requires exactly the features that its code was compiled with."""
    text = (Path(__file__).parents[1] / "CMakeLists.txt").read_text()
    flags = {
        name: {flag[2:] for flag in line.split() if flag.startswith("-m") and "=" not in flag}
        for name in ("AVX2", "AVX512")
        for line in text.replace(")", " ").splitlines()
        if line.startswith(f"set({name} ")
    }

    assert plugin.FEATURES["avx2"] == flags["AVX2"]
    assert plugin.FEATURES["avx512"] == flags["AVX2"] | flags["AVX512"]
    assert not plugin.FEATURES["baseline"]


def test_declaring_loads_no_kernel() -> None:
    """Importing the plugin and reading its declarations imports no extension module."""
    code = (
        "import sys, assay_kernels.plugin as p\n"
        "list(p.assay_implementations())\n"
        "sys.exit(any(m.startswith('assay_kernels._') for m in sys.modules))"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("name", "op"), [*itertools.product(plugin.FEATURES, plugin.OPERATIONS)])
def test_openers_are_there(name: str, op: str) -> None:
    """Every opener that a declaration names exists."""
    if f"{op}.native-{name}" not in declared():
        pytest.skip("not offered on this machine")
    target = declared()[f"{op}.native-{name}"].opener
    assert isinstance(target, str)
    module, _, path = target.partition(":")

    found = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)

    assert callable(found)


def test_module_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening a kernel whose module was not built says what to install."""
    monkeypatch.setitem(sys.modules, "assay_kernels._avx2", None)
    device = assay.Device(kind="cpu", name="a CPU")

    with pytest.raises(ImportError, match=r"compiled for avx2. Install a C\+\+17 compiler"):
        opening.avx2.mel(device, assay.Plan(device=device, batch_size=1))
