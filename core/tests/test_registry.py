"""Discovery: every plugin can only harm itself, and the order of installation decides nothing."""

import importlib.metadata
import itertools
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import assay
import numpy as np
import pytest
from assay.contract.reasons import ReasonCode
from assay.registry import discover

HEADER = """
import assay, numpy as np

def operation(name="double", version="1"):
    return assay.Operation(
        name=name, version=version, signature=lambda x, *, times=2, out=None: None,
        inputs=(assay.Input("x", frozenset({"float32"})),),
        infer=lambda x, *, times: assay.Spec(x.shape, x.dtype),
        reference=lambda x, *, times: x.astype(np.float64) * times,
        probes=lambda rng, domain: iter(()),
        tolerance=lambda *given: assay.Tolerance(1e-6),
        standard=lambda rng: None,
    )

def offer(name, op="double"):
    return assay.Implementation(op=op, name=name, kernel="no.such:thing")
"""

OPERATION = "\n@assay.hookimpl\ndef assay_operations():\n    yield operation()\n"


def offers(*lines: str) -> str:
    """A hook that does these lines."""
    return "\n@assay.hookimpl\ndef assay_implementations():\n" + "".join(f"    {line}\n" for line in lines)


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Puts distributions on the path: install("name", source); then discover(allow=install.names)."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def one(name: str, source: str, *, version: str = "1.0", requires: Sequence[str] = ()) -> None:
        module = f"fake_{name}"
        (tmp_path / f"{module}.py").write_text(HEADER + source)
        metadata = f"Metadata-Version: 2.1\nName: fake-{name}\nVersion: {version}\n"
        _describe(tmp_path, module, metadata + "".join(f"Requires-Dist: {line}\n" for line in requires))
        one.names.append(name)

    one.names = []
    one.folder = tmp_path
    yield one
    for name in set(sys.modules) - before:
        if name.startswith("fake_"):
            del sys.modules[name]


def _describe(folder: Path, module: str, metadata: str) -> None:
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(metadata)
    (info / "entry_points.txt").write_text(f"[assay]\n{module.removeprefix('fake_')} = {module}\n")


def plugin(registry, name):
    """The record of one plugin."""
    return next(one for one in registry.plugins if one.name == name)


GOOD = OPERATION + offers("yield offer('good')")


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("raise OSError('no luck')", "failed to load: OSError: no luck"),
        ("raise SystemExit(3)", "failed to load: SystemExit: 3"),
        ("import no_such_module", "failed to load: ModuleNotFoundError: No module named 'no_such_module'"),
        ("def broken(:", "failed to load: SyntaxError"),
        (offers("raise ValueError('in the hook')"), "assay_implementations failed: ValueError: in the hook"),
        (offers("import sys; sys.exit('bye')"), "assay_implementations failed: SystemExit: bye"),
        (offers("return None"), "returned None, not an iterable: write `yield`, or return a list"),
        (offers("yield 'nonsense'"), "yielded 'nonsense', which is no assay.Implementation"),
        (offers("yield operation()"), "which is no assay.Implementation"),
        (offers("yield offer('Bad Name')"), "name: Value error, 'Bad Name' is not a name"),
        (
            offers("yield assay.Implementation(op='double', name='x')"),
            "give exactly one of kernel= and opener=, got neither",
        ),
        (
            "@assay.hookimpl\ndef assay_implementation():\n    return []",
            "unknown hook 'assay_implementation': did you mean 'assay_implementations'?",
        ),
        (
            offers("yield offer('x', op='duoble')"),
            "offers implementations of 'duoble', which no plugin defines: did you mean 'double'?",
        ),
        (OPERATION, "operation 'double' is already defined by fake-good 1.0"),
    ],
)
def test_a_bad_plugin_harms_only_itself(install, source, problem):
    """What went wrong is recorded with the plugin, and its neighbours are all there."""
    install("good", GOOD)
    install("other", source)
    registry = discover(allow=install.names)
    (recorded,) = plugin(registry, "other").problems
    assert problem in recorded
    assert plugin(registry, "other").distribution.name == "fake-other"
    assert plugin(registry, "good").problems == []
    assert [implementation.id for implementation, _ in registry.offers if implementation.op == "double"] == [
        "double.good"
    ]


def test_what_came_before_the_failure_stays(install):
    """A hook that raises half-way keeps what it had yielded, and nonsense is left out between the rest."""
    install(
        "good", OPERATION + offers("yield offer('a')", "yield 42", "yield offer('b')", "raise ValueError")
    )
    registry = discover(allow=install.names)
    assert [implementation.name for implementation, _ in registry.offers] == ["a", "b"]
    assert len(plugin(registry, "good").problems) == 2


def test_another_api_version_is_refused_before_import(install):
    """The range in the distribution's own metadata decides; its code is not touched."""
    install("new", "raise AssertionError('it was imported')", requires=["numpy", "assay>=99"])
    (problem,) = plugin(discover(allow=install.names), "new").problems
    assert problem == f"needs assay>=99, this is assay {assay.__version__}: install a matching version"


def test_a_range_of_an_extra_does_not_count(install):
    """A requirement under an extra says nothing about the plugin as installed."""
    install("good", GOOD, requires=["assay>=0.1", 'assay>=99; extra == "future"'])
    assert plugin(discover(allow=install.names), "good").problems == []


@pytest.mark.parametrize(
    "metadata",
    ["", "Metadata-Version: 2.1\nName: fake-odd\nVersion: 1\nRequires-Dist: assay ???\n"],
    ids=["no metadata", "unreadable requirement"],
)
def test_damaged_metadata_harms_only_itself(install, metadata):
    """A distribution that is half uninstalled, or whose metadata cannot be read, leaves the rest alone."""
    install("good", GOOD)
    (install.folder / "fake_odd.py").write_text("")
    _describe(install.folder, "fake_odd", metadata)
    registry = discover(allow=[*install.names, "odd"])
    assert plugin(registry, "good").offers == ["double", "double.good"]


def test_allow_and_deny(install):
    """By entry point or distribution, by name or pattern; what is skipped says why and is not imported."""
    install("good", GOOD)
    install("bad", "raise AssertionError('it was imported')")
    registry = discover(allow=["fake-*"], deny=["fake-bad"])
    assert plugin(registry, "bad").skipped == "in [plugins] deny"
    assert plugin(registry, "good").skipped == ""
    registry = discover(allow=["good"])
    assert plugin(registry, "bad").skipped == "not in [plugins] allow"


def test_autoload_off_takes_only_what_is_given(install):
    """Without autoload nothing installed is looked at."""
    install("bad", "raise AssertionError('it was imported')")

    class Live:
        @assay.hookimpl
        def assay_implementations(self):
            yield assay.Implementation(op="double", name="live", kernel=lambda x, *, times: x)

    registry = discover(autoload=False, live=[Live()])
    assert [one.name for one in registry.plugins] == ["Live"]
    assert plugin(registry, "Live").live


def reasons(registry, op="double"):
    """For every candidate: its distribution and why it was refused."""
    return {
        (candidate.id, str(candidate.distribution)): [reason.code for reason in candidate.reasons]
        for candidate in registry.candidates(op)
    }


def test_the_owner_of_an_operation_wins_a_duplicate(install):
    """Of two that offer one id, the distribution that defines the operation keeps it; the other is told."""
    install("a", offers("yield offer('fast')"))
    install("owner", OPERATION + offers("yield offer('fast')"))
    registry = discover(allow=install.names)
    assert reasons(registry) == {
        ("double.fast", "fake-owner 1.0"): [],
        ("double.fast", "fake-a 1.0"): [ReasonCode.DUPLICATE],
    }
    (refused,) = [c for c in registry.candidates("double") if c.rejected]
    assert refused.reasons[0].message == "double.fast is offered by fake-a 1.0 and fake-owner 1.0"
    assert refused.reasons[0].remedy == "uninstall one of them, or deny a plugin: [plugins] deny = ['a']"


def test_strangers_with_one_id_are_both_refused(install):
    """Where neither owns the operation nobody is guessed at: both are refused, both are named."""
    install("owner", OPERATION)
    install("a", offers("yield offer('fast')"))
    install("b", offers("yield offer('fast')"))
    registry = discover(allow=install.names)
    assert set(reasons(registry).values().__iter__().__next__()) == {ReasonCode.DUPLICATE}
    for candidate in registry.candidates("double"):
        assert candidate.reasons[0].message == "double.fast is offered by fake-a 1.0 and fake-b 1.0"


def outcome(registry):
    """Everything that discovery decides."""
    return (
        [(one.name, str(one.distribution), one.problems, one.offers) for one in registry.plugins],
        list(registry.operations),
        {op: str(owner) for op, owner in registry.owners.items()},
        [(c.id, str(c.distribution), [str(r) for r in c.reasons]) for c in registry.candidates("double")],
    )


def test_the_order_of_installation_decides_nothing(install, monkeypatch):
    """In every order in which the system may list them, discovery ends alike."""
    install("owner", OPERATION + offers("yield offer('fast')", "yield offer('own')"))
    install("rival", OPERATION + offers("yield offer('fast')"))
    install("a", offers("yield offer('twice')"))
    install("b", offers("yield offer('twice')"))
    points = [
        point for point in importlib.metadata.entry_points(group="assay") if point.name in install.names
    ]
    assert len(points) == 4
    found = []
    for order in itertools.permutations(points):
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda group, order=order: order)
        found.append(outcome(discover(allow=install.names)))
    assert all(one == found[0] for one in found)


def test_the_first_on_the_path_is_the_one(install, tmp_path_factory, monkeypatch):
    """Of one distribution installed twice, the copy that an import would take is the one described."""
    install("good", GOOD)
    nearer = tmp_path_factory.mktemp("nearer")
    (nearer / "fake_good.py").write_text(HEADER + OPERATION)
    _describe(nearer, "fake_good", "Metadata-Version: 2.1\nName: fake-good\nVersion: 2.0\n")
    monkeypatch.syspath_prepend(nearer)
    registry = discover(allow=install.names)
    assert [(one.name, one.distribution.version) for one in registry.plugins if one.name == "good"] == [
        ("good", "2.0")
    ]


def test_unknown_operation_names_the_near_one(install):
    """Asking for what nobody offers is answered with what somebody does."""
    install("good", GOOD)
    with pytest.raises(assay.UnknownOperation, match="'duoble': did you mean 'double'"):
        discover(allow=install.names).operation("duoble")


def test_a_runtime_logs_failures_and_serves_the_rest(install, caplog, monkeypatch, tmp_path):
    """The failure is a WARNING with the distribution and its version; the good one serves."""
    monkeypatch.setenv("ASSAY_PLUGINS__ALLOW", "bad")
    install("bad", "raise OSError('no luck')", version="2.5")

    class Live:
        @assay.hookimpl
        def assay_operations(self) -> Iterable[assay.Operation]:
            yield assay.Operation(
                name="double",
                version="1",
                signature=lambda x, *, out=None: None,
                inputs=(assay.Input("x", frozenset({"float32"})),),
                infer=lambda x: assay.Spec(x.shape, x.dtype),
                reference=lambda x: x.astype(np.float64) * 2,
                probes=lambda rng, domain: iter(
                    assay.Probe(f"{n}", (rng.standard_normal(n).astype(np.float32),), {}) for n in (4, 5, 6)
                ),
                tolerance=lambda *given: assay.Tolerance(1e-6),
                standard=lambda rng: assay.Probe("standard", (np.ones(8, np.float32),), {}),
            )

        @assay.hookimpl
        def assay_implementations(self) -> Iterable[assay.Implementation]:
            yield assay.Implementation(op="double", name="live", kernel=lambda x: x * np.float32(2))

    with assay.Runtime({"proof": {"ledger": tmp_path}}, plugins=[Live()]) as runtime:
        np.testing.assert_array_equal(runtime.run("double", np.float32([1, 2])), np.float32([2, 4]))
    (record,) = [one for one in caplog.records if "plugin.failed" in one.getMessage()]
    assert record.levelname == "WARNING"
    assert 'distribution="fake-bad 2.5"' in record.getMessage()
    assert "no luck" in record.getMessage()
