"""``assay new-plugin NAME --op OP``: a package with one implementation, its tests and its CI, complete."""

from __future__ import annotations

import importlib.resources
import importlib.util
import keyword
from pathlib import Path
from string import Template
from typing import Annotated, Any

import numpy as np
import typer

from assay import __version__
from assay.cli import DONE, Misused
from assay.cli.output import console, emit
from assay.contract.implementation import NAME
from assay.contract.operation import Operation
from assay.registry import Registry, discover

FILES = {
    "pyproject.toml.txt": "pyproject.toml",
    "README.md.txt": "README.md",
    "gitignore.txt": ".gitignore",
    "ci.yml.txt": ".github/workflows/test.yml",
    "init.py.txt": "src/${package}/__init__.py",
    "plugin.py.txt": "src/${package}/plugin.py",
    "kernel.py.txt": "src/${package}/kernel.py",
    "test.py.txt": "tests/test_${package}.py",
}
"""The template's files, and where each goes."""

Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the package, and of its implementation.")]
Op = Annotated[str, typer.Option("--op", help="The operation that it implements.")]
Into = Annotated[Path, typer.Option("--into", help="The folder that the package's own folder is made in.")]
Json = Annotated[bool, typer.Option("--json", help="Data instead of text.")]


def command(name: Name, op: Op, into: Into = Path(), json: Json = False) -> int:
    """Write a package with an implementation of an operation.

    It is complete: installed, its tests pass and it shows in `assay status`. Then write your kernel.
    """
    package, folder = name.replace("-", "_"), into / name
    if not NAME.match(name) or not package.isidentifier() or keyword.iskeyword(package):
        raise Misused(f"{name!r} cannot be a package: use lower-case letters, digits and '-', a letter first")
    if folder.exists():
        raise Misused(f"{folder} is there already")
    if importlib.util.find_spec(package) is not None:
        raise Misused(f"a module {package!r} is installed already; choose another name")
    registry = discover()
    values = _values(registry, registry.operation(op), name, package)
    template = importlib.resources.files("assay.testing") / "template"
    written = []
    for source, target in FILES.items():
        path = folder / Template(target).substitute(values)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = (template / source).read_text(encoding="utf-8")
        path.write_text(Template(text).substitute(values), encoding="utf-8")
        written.append(str(path))
    if json:
        emit({"folder": str(folder), "files": written, "id": f"{op}.{name}"})
        return DONE
    for line in (
        *written,
        "",
        f"pip install -e '{folder}[test]'",
        f"pytest {folder}",
        f"assay explain {op}",
        f"then write your kernel in {folder}/src/{package}/kernel.py",
    ):
        console().print(line)
    return DONE


def _values(registry: Registry, op: Operation[Any, Any], name: str, package: str) -> dict[str, str]:
    """What stands for the template's placeholders."""
    probe = op.standard(np.random.default_rng(0))
    spec = op.infer(*probe.inputs[: len(op.required)], **op.keywords(probe.inputs, probe.params))
    required = [item.name for item in op.required]
    keywords = [*(item.name for item in op.optional), *op.defaults]
    major, minor, *_ = __version__.split(".")
    main = probe.inputs[0]
    assert main is not None
    return {
        "name": name,
        "package": package,
        "title": "".join(part.capitalize() for part in package.split("_")),
        "op": op.name,
        "owner": registry.owners[op.name].name,
        "range": f">={major}.{minor},<{major}.{int(minor) + 1}",
        "function": op.name.replace("-", "_"),
        "summary": f"{(op.description or op.name)[0].upper()}{(op.description or op.name)[1:]}.",
        "signature": ", ".join([*required, *(["*", *keywords] if keywords else [])]),
        "arguments": ",\n        ".join([*required, *(f"{one}={one}" for one in keywords)]),
        "reference_module": op.reference.__module__,
        "reference_name": op.reference.__name__,
        "dtype": main.dtype.name,
        "result": spec.dtype.name,
    }
