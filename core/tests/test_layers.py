"""The architecture of core: imports point downwards, nothing names an operation, importing is cheap."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import assay
import pytest

CORE = Path(assay.__file__).parent
LAYERS = (
    ("contract",),
    ("registry", "config"),
    ("devices",),
    ("negotiation",),
    ("scheduler",),
    ("runtime",),
    ("cli", "unified", "testing", "public"),
)
"""From the bottom up."""

OPERATIONS = ("mel", "gelu", "attention")
MODULES = sorted(path for path in CORE.rglob("*.py") if path != CORE / "__init__.py")


def layer(dotted: str) -> int:
    """How high "assay.scheduler.route" is."""
    part = dotted.split(".")[1]
    return next(height for height, names in enumerate(LAYERS) if part in names)


def imported(path: Path):
    """What a module imports from assay, as dotted names with their lines."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            package = name(path).split(".") if path.name == "__init__.py" else name(path).split(".")[:-1]
            parents = package[: len(package) + 1 - node.level] if node.level else []
            for alias in node.names:
                yield ".".join([*parents, node.module, alias.name]), node.lineno
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno


def name(path: Path) -> str:
    """The dotted name of a file."""
    return ".".join(("assay", *path.relative_to(CORE).with_suffix("").parts)).removesuffix(".__init__")


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_imports_point_only_downwards(path):
    """A module imports from its own layer and from those below; of the top, only the version."""
    for target, line in imported(path):
        if target == "assay.__version__" or not target.startswith("assay."):
            continue
        if layer(name(path)) == len(LAYERS) - 1 and target.count(".") == 1 and hasattr(assay, target[6:]):
            continue  # the faces use the public names
        assert layer(target) <= layer(name(path)), f"{path}:{line} imports {target}"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_core_names_no_operation(path):
    """Neither a plugin's module nor an operation's name is in the code, save in the older runtime's face."""
    if path.name == "unified.py":
        return
    for target, line in imported(path):
        assert not target.startswith(tuple(f"assay_{op}" for op in (*OPERATIONS, "kernels"))), (
            f"{path}:{line}"
        )
    tree = ast.parse(path.read_text())
    names = {node.id: node.lineno for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names |= {node.attr: node.lineno for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    strings = {
        node.value: node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    for word, line in (names | strings).items():
        assert word not in OPERATIONS, f"{path}:{line} names {word!r}"


IMPORT = """
import json, sys
import numpy, pluggy, pydantic, structlog  # what these load is theirs
before = set(sys.modules)
opened = []
sys.addaudithook(lambda event, args: opened.append((event, str(args[0]))) if event in WATCHED else None)
import assay
looked = [what for event, what in opened if event != "open" or what.startswith(("/proc", "/sys", "/dev"))]
print(json.dumps({"modules": sorted(set(sys.modules) - before), "looked": looked}))
"""

WATCHED = ("subprocess.Popen", "os.fork", "os.posix_spawn", "socket.connect", "ctypes.dlopen", "open")
HEAVY = (
    *("typer", "click", "rich", "scipy", "librosa", "numba", "torch", "onnx", "onnxruntime", "matplotlib"),
    *(
        "soundfile",
        "soxr",
        "asrfront",
        "transformers",
        "pyxrt",
        "archspec.cpu.detect",
        "filelock",
        "multiprocessing",
    ),
    *("assay_mel", "assay_gelu", "assay_attention", "assay_kernels", "assay.cli", "assay.testing"),
)


def test_import_is_light_and_looks_at_nothing():
    """Importing loads no library of a kernel or of the command line, starts nothing and probes no device."""
    code = IMPORT.replace("WATCHED", repr(WATCHED))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert sorted(set(HEAVY) & set(found["modules"])) == []
    assert found["looked"] == []


def test_the_command_line_is_not_needed():
    """Without typer and rich the library imports and opens a runtime."""
    code = (
        "import sys; sys.modules['typer'] = sys.modules['rich'] = None\n"
        "import assay; assay.Runtime({'plugins': {'autoload': False}}).close()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
