"""Packages of strangers, as wheels beside ours in a fresh environment, seen through the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
SAMPLES = ("good", "liar", "raises", "segfault")

pytestmark = pytest.mark.install


class Environment:
    """A virtual environment with its own ledger and configuration."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        venv.create(folder / "venv", with_pip=False)
        self.bin = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
        # Nothing of the environment that runs the tests, and nothing of the user's.
        self.variables = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("ASSAY_", "PYTHON", "COV_", "XDG_"))
        }
        self.variables |= {"XDG_CACHE_HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "COLUMNS": "300"}

    def pip(self, *arguments: str | Path) -> None:
        """Run pip for this environment, with the exact versions that the Makefile uses."""
        python = self.bin / "python"
        command = [sys.executable, "-m", "pip", "--python", python, *arguments, "-qq"]
        subprocess.run(command, check=True, env=self.variables)

    def assay(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the installed command."""
        return subprocess.run(
            [self.bin / "assay", *arguments],
            cwd=self.folder,
            env=self.variables | variables,
            capture_output=True,
            text=True,
            timeout=300,
        )

    def explain(self, **variables: str) -> dict[str, dict[str, Any]]:
        """The candidates of mel by name."""
        done = self.assay("explain", "mel", "--json", **variables)
        assert done.returncode == 0, done.stderr
        return {one["id"].removeprefix("mel."): one for one in json.loads(done.stdout)["candidates"]}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Wheels of core, mel and the samples, installed as a user would."""
    wheels = tmp_path_factory.mktemp("wheels")
    sources = [ROOT / "core", ROOT / "plugins/mel", *(ROOT / "tests/packages" / name for name in SAMPLES)]
    command = [sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps", "--no-build-isolation", "-w", wheels]
    subprocess.run([*command, *sources], check=True)
    made = Environment(tmp_path_factory.mktemp("fresh"))
    constraints = ROOT / "constraints.txt"
    packages = ["assay[cli]", "assay-mel", *(f"assay-sample-{name}" for name in SAMPLES)]
    made.pip("install", "--find-links", wheels, "-c", constraints, *packages)
    audio = np.random.default_rng(1).standard_normal(16_000).astype(np.float32) * np.float32(0.1)
    np.save(made.folder / "audio.npy", audio)
    return made


def test_a_strangers_package_is_discovered_proved_and_ranked(environment: Environment) -> None:
    """It is there beside ours, with a certificate, behind those that rank higher."""
    good = environment.explain()["good"]
    assert (good["distribution"], good["verdict"]) == ("assay-sample-good 1.0", "standby")
    assert good["certificate"]["measurements"]


def test_it_is_chosen_by_preference_and_serves(environment: Environment) -> None:
    """prefer puts it first, and the features that it serves are those of the definition."""
    preferred = {"ASSAY_OPS__MEL__PREFER": "good"}
    assert environment.explain(**preferred)["good"]["verdict"] == "chosen"
    done = environment.assay("run", "mel", "audio.npy", "-o", "mine.npy", "--json", **preferred)
    assert (done.returncode, json.loads(done.stdout)["implementation"]) == (0, "mel.good")
    done = environment.assay("run", "mel", "audio.npy", "-o", "definition.npy", "--require", "reference")
    assert done.returncode == 0, done.stderr
    mine, definition = (np.load(environment.folder / name) for name in ("mine.npy", "definition.npy"))
    assert mine.shape == (80, 100)
    np.testing.assert_allclose(mine, definition, rtol=0, atol=5e-6)


def test_the_liar_is_rejected_as_inaccurate(environment: Environment) -> None:
    """A constant is recognised as one, whatever rank it claims."""
    (reason,) = environment.explain()["liar"]["reasons"]
    assert reason["code"] == "inaccurate"
    assert "it looks like a constant (0.25)" in reason["message"]


def test_the_segfault_is_a_reason_and_no_outage(environment: Environment) -> None:
    """The proof's process dies of it; the one that asks goes on."""
    (reason,) = environment.explain()["segfault"]["reasons"]
    assert reason["code"] == "crashed"
    assert "SIGSEGV" in reason["message"]


def test_the_one_that_raises_breaks_nothing(environment: Environment) -> None:
    """It is recorded with its distribution and its error, and everything else is loaded."""
    done = environment.assay("plugins", "--json")
    assert done.returncode == 1
    plugins = {one["plugin"]: one for one in json.loads(done.stdout)["plugins"]}
    assert "OSError: libfast.so.1: cannot open shared object file" in plugins["raises"]["problems"][0]
    assert plugins["raises"]["distribution"] == "assay-sample-raises 1.0"
    assert all(plugins[name]["problems"] == [] for name in ("mel", "good", "liar", "segfault"))


def test_the_doctor_names_them_all(environment: Environment) -> None:
    """Each with a remedy, exit 1; denied, as the remedy says, there is nothing left to mend."""
    done = environment.assay("doctor", "--json")
    assert done.returncode == 1
    wrong = {one["about"]: one for one in json.loads(done.stdout)["findings"] if one["health"] == "wrong"}
    assert set(wrong) == {"plugin raises", "mel.liar", "mel.segfault"}
    assert all(finding["remedy"] for finding in wrong.values())
    assert 'set [plugins] deny = ["raises"]' in wrong["plugin raises"]["remedy"]
    healed = environment.assay("doctor", ASSAY_PLUGINS__DENY="raises,liar,segfault")
    assert (healed.returncode, healed.stderr) == (0, "")
    assert healed.stdout.rstrip().endswith("Nothing is wrong.")


def test_the_remedy_for_a_missing_package_works(environment: Environment) -> None:
    """Followed to the letter it makes the candidate serve, and uninstalling takes it away again."""
    deny = {"ASSAY_PLUGINS__DENY": "raises,liar,segfault"}
    missing = environment.explain(**deny)["asrfront"]
    (reason,) = missing["reasons"]
    assert (reason["code"], missing["remedy_needed"]) == ("package_missing", "optional")
    pip, install, requirement = reason["remedy"].replace("'", "").split()
    assert (pip, install) == ("pip", "install")
    environment.pip("install", "-c", ROOT / "constraints.txt", requirement)
    assert environment.explain(**deny)["asrfront"]["verdict"] in ("chosen", "standby")
    environment.pip("uninstall", "-y", "asrfront")
    assert environment.explain(**deny)["asrfront"]["reasons"][0]["code"] == "package_missing"
