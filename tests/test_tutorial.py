"""docs/tutorial.md does what it says: its files are written, its commands run, its output appears."""

import os
import re
import shlex
import site
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "tutorial.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)

SHIM = "#!{python}\nimport sys\nsys.argv[1:] = [*sys.argv[1:], *{extra!r}]\n{run}\n"
TOOLS = {
    # What the package needs is here already: nothing is fetched.
    "pip": (
        "from pip._internal.cli.main import main\nsys.exit(main())",
        ["--no-build-isolation", "--no-index"],
    ),
    "pytest": ("import pytest\nsys.exit(pytest.console_main())", []),
    "assay": ("from assay.cli import main\nsys.exit(main())", []),
}


@pytest.fixture
def shell(tmp_path):
    """Runs commands in an environment of its own, on top of what is installed here; gives what they print."""
    environment, folder = tmp_path / "env", tmp_path / "work"
    folder.mkdir()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    (below,) = environment.glob("lib/python*/site-packages")
    here = [path for path in site.getsitepackages() if Path(path).is_dir()]
    (below / "below.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in here))
    for name, (run, extra) in TOOLS.items():
        path = environment / "bin" / name
        path.write_text(SHIM.format(python=environment / "bin" / "python", run=run, extra=extra))
        path.chmod(0o755)
    variables = {name: value for name, value in os.environ.items() if not name.startswith("ASSAY_")}
    variables |= {
        "PATH": os.pathsep.join([str(environment / "bin"), os.environ["PATH"]]),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "COLUMNS": "120",
        "ASSAY_PLUGINS__ALLOW": "gelu,fast-gelu",
        "ASSAY_OPS__GELU__DENY": "torch,onnxruntime,scipy",  # a newcomer does not have them either
    }

    def run(line):
        command, _, expected = line.partition("  # exit ")
        done = subprocess.run(
            shlex.split(command), cwd=folder, env=variables, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == int(expected or 0), f"$ {command}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    run.folder = folder
    return run


def commands(text):
    return [line.removeprefix("$ ") for line in text.splitlines() if line.startswith("$ ")]


def test_the_tutorial(shell):
    """Block by block, as it stands."""
    said = ""
    for kind, text in BLOCKS:
        if kind in ("python", "toml"):
            path = shell.folder / re.match("# (.*)\n", text).group(1)
            assert path.parent.is_dir(), path
            path.write_text(text)
        elif kind == "console":
            said = "".join(shell(line) for line in commands(text))
        elif kind == "text":
            for line in text.splitlines():
                assert "".join(line.split()) in "".join(said.split()), said


def test_it_is_short():
    """From the package to the served kernel: five commands, and 25 lines to write."""
    until_served = PAGE[: PAGE.index("A program names the file")]
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", until_served, re.MULTILINE | re.DOTALL)
    assert sum(len(commands(text)) for kind, text in blocks if kind == "console") <= 5
    written = [line for kind, text in blocks if kind in ("python", "toml") for line in text.splitlines()]
    assert len([line for line in written if line.strip()]) <= 25
