"""The extension modules under test: every set that this CPU can run, and 16 lanes on any x86-64."""

from __future__ import annotations

import fcntl
import importlib
import importlib.util
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import archspec.cpu.detect
import pytest
from assay_kernels.plugin import FEATURES

KERNELS = Path(__file__).parents[1]
CPU = frozenset(archspec.cpu.detect.detected_info().features)


def built(name: str) -> Path:
    """Where the extension module of an instruction set was installed; skips the test if it wasn't."""
    spec = importlib.util.find_spec(f"assay_kernels._{name}")
    if spec is None or spec.origin is None:
        pytest.skip(f"assay_kernels._{name} was not built on this machine")
    return Path(spec.origin)


def load(name: str) -> ModuleType:
    """The extension module of an instruction set; skips the test where this CPU can't run it."""
    missing = FEATURES[name] - CPU
    if missing:
        pytest.skip(f"this CPU has no {', '.join(sorted(missing))}")
    built(name)
    return importlib.import_module(f"assay_kernels._{name}")


def build_wide() -> ModuleType:
    """The sources of the widest set, 16 lanes, as AVX2 code: its logic without its instructions."""
    missing = FEATURES["avx2"] - CPU
    if missing or platform.machine().lower() not in {"x86_64", "amd64"}:
        pytest.skip("16 lanes are tested with AVX2 code, which this CPU cannot run")
    cmake = shutil.which("cmake") or shutil.which("cmake", path=str(Path(sys.executable).parent))
    if cmake is None or (shutil.which("c++") is None and shutil.which("g++") is None):
        pytest.skip("building the 16-lane test module takes cmake and a C++ compiler")
    build = KERNELS / "build" / f"wide-{sys.implementation.cache_tag}"
    build.mkdir(parents=True, exist_ok=True)
    with (build / "lock").open("w") as lock:  # several pytest workers may come here at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        options = ["-DASSAY_KERNELS_WIDE=ON", f"-DPython_EXECUTABLE={sys.executable}"]
        run(cmake, "-S", str(KERNELS), "-B", str(build), *options)
        run(cmake, "--build", str(build), "--target", "_wide", "--parallel", "2")
    (path,) = build.glob("_wide.*.so")
    spec = importlib.util.spec_from_file_location("_wide", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(*command: str) -> None:
    """Run a command; its output is the error's text if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"


@pytest.fixture
def module_path() -> Callable[[str], Path]:
    """Gives the path of an installed extension module, without importing it."""
    return built


@pytest.fixture(scope="session")
def _wide() -> ModuleType:
    return build_wide()


@pytest.fixture(params=["baseline", "avx2", "avx512", "wide"])
def native(request: pytest.FixtureRequest) -> ModuleType:
    """Each extension module in turn."""
    if request.param == "wide":
        module: ModuleType = request.getfixturevalue("_wide")
        return module
    return load(request.param)
