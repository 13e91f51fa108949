"""Configuration: what goes over what, where a value came from, and what a mistake is answered with."""

import re
from pathlib import Path

import assay
import numpy as np
import pytest
from assay.config import Config, load
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

DOC = Path(__file__).parents[2] / "docs" / "configuration.md"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """An empty folder, and no configuration of the user's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    for name in ("ASSAY_CONFIG", "ASSAY_PROOF__LEDGER"):
        monkeypatch.delenv(name, raising=False)


def file(text: str, name: str = "assay.toml") -> Path:
    """A configuration file in the working directory."""
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


NAMES = st.lists(st.sampled_from(["librosa", "native-*", "numpy", "x"]), max_size=3)
KEYS = {
    "preset": st.sampled_from(["latency", "balanced", "throughput", "single"]),
    "threads": st.integers(0, 99),
    "ops.mel.prefer": NAMES,
    "ops.mel.batch_size": st.integers(1, 999),
    "ops.gelu.accuracy": st.sampled_from(["exact", "approximate"]),
    "proof.timeout_s": st.integers(1, 99).map(float),
    "proof.mode": st.sampled_from(["cached", "always", "frozen", "off"]),
    "fallback.enabled": st.booleans(),
    "plugins.deny": NAMES,
    "devices.xrt.index": st.integers(0, 3),
}
LAYER = st.fixed_dictionaries({}, optional=KEYS)

unhurried = settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
"""A busy machine is no failure."""


def nested(layer: dict) -> dict:
    """{"ops.mel.prefer": 1} as {"ops": {"mel": {"prefer": 1}}}."""
    tree: dict = {}
    for key, value in layer.items():
        *sections, last = key.split(".")
        here = tree
        for section in sections:
            here = here.setdefault(section, {})
        here[last] = value
    return tree


def toml(layer: dict) -> str:
    """One dotted key a line."""
    return "".join(
        f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}\n"
        for key, value in layer.items()
    )


def environment(layer: dict) -> dict[str, str]:
    """The same as variables."""
    return {
        f"ASSAY_{key.upper().replace('.', '__')}": ",".join(value) if isinstance(value, list) else str(value)
        for key, value in layer.items()
    }


def value_at(config: Config, key: str):
    """The effective value of a dotted key, lists as lists."""
    here = config.model_dump(mode="json")
    for part in key.split("."):
        here = here[part]
    return here


@unhurried
@given(in_file=LAYER, in_environment=LAYER)
def test_the_environment_goes_over_the_file(tmp_path_factory, in_file, in_environment):
    """Key by key: lists replace, tables merge, and the source is the layer that the value came from."""
    path = tmp_path_factory.mktemp("config") / "assay.toml"
    path.write_text(toml(in_file))
    loaded = load(path, environ=environment(in_environment))
    for key in KEYS:
        if key in in_environment:
            given_value = in_environment[key]
            assert loaded.sources[key] == next(iter(environment({key: 0})))
        elif key in in_file:
            given_value = in_file[key]
            assert loaded.sources[key] == f"{path}:{list(in_file).index(key) + 1}"
        else:
            assert key not in loaded.sources
            continue
        if key == "devices.xrt.index" and key in in_environment:
            given_value = str(given_value)  # a driver's own setting has no type to convert it to
        assert value_at(loaded.config, key) == given_value


@unhurried
@given(in_environment=LAYER, in_program=LAYER)
def test_the_program_goes_over_the_environment(in_environment, in_program):
    """A mapping given to the runtime has the last word."""
    loaded = load(nested(in_program), environ=environment(in_environment))
    for key, value in in_program.items():
        assert value_at(loaded.config, key) == value
        assert loaded.sources[key] == "the program"


def test_nothing_given_is_the_defaults():
    """Without a file, a variable or a mapping every value is its default."""
    assert load(environ={}).config == Config()


def test_a_whole_config_is_taken_as_it_is():
    """A Config is final: nothing goes over it."""
    given_config = Config(preset="latency")
    assert load(given_config, environ={"ASSAY_PRESET": "single"}).config is given_config


def test_lists_replace():
    """A list is never mixed from two places."""
    path = file("[ops.mel]\nprefer = ['a', 'b']\ndeny = ['c']\n")
    config = load(path, environ={"ASSAY_OPS__MEL__PREFER": "d"}).config
    assert config.op("mel").prefer == ("d",)
    assert config.op("mel").deny == ("c",)


@pytest.mark.parametrize(
    ("text", "names"), [("a,b", ("a", "b")), (" a , b,", ("a", "b")), ("native-*", ("native-*",)), ("", ())]
)
def test_lists_in_variables_are_comma_separated(text, names):
    """Blanks and empty parts do not count."""
    assert load(environ={"ASSAY_OPS__MEL__PREFER": text}).config.op("mel").prefer == names


def test_an_operation_falls_back_on_the_top_level():
    """Preset and accuracy of an operation are the top level's where it has none of its own."""
    config = load(
        {"preset": "single", "accuracy": "approximate", "ops": {"mel": {"preset": "latency"}}}
    ).config
    assert (config.op("mel").preset, config.op("mel").accuracy) == ("latency", assay.Accuracy.APPROXIMATE)
    assert config.op("gelu").preset == "single"


def test_the_library_never_reads_the_working_directory():
    """./assay.toml could name code to load, so only the command line takes it."""
    file("preset = 'single'\n")
    assert load(environ={}).config.preset == "balanced"


def test_the_users_own_file(tmp_path):
    """It is taken where no other is named, and ASSAY_CONFIG goes before it."""
    file("preset = 'single'\n", "home/assay/assay.toml")
    assert load(environ={}).config.preset == "single"
    file("preset = 'latency'\n", "other.toml")
    assert load(environ={"ASSAY_CONFIG": "other.toml"}).config.preset == "latency"
    assert load(
        file("preset = 'throughput'\n", "third.toml"), environ={"ASSAY_CONFIG": "other.toml"}
    ).config.preset == ("throughput")


def test_paths_are_relative_to_the_file(tmp_path):
    """A ledger or a folder of kernels belongs to the file that names it, not to the working directory."""
    text = (
        "[proof]\nledger = 'certificates'\n[kernels]\npaths = ['k', '/abs']\n[fallback]\ncapture = 'failed'\n"
    )
    path = file(text, "deep/assay.toml")
    config = load(path, environ={}).config
    assert config.proof.ledger == tmp_path / "deep" / "certificates"
    assert config.kernels.paths == (tmp_path / "deep" / "k", Path("/abs"))
    assert config.fallback.capture == tmp_path / "deep" / "failed"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("thread = 1", "assay.toml:1: unknown key 'thread': did you mean 'threads'?"),
        (
            "# one\n\n[proof]\ntimeout = 3",
            "assay.toml:4: unknown key 'proof.timeout': did you mean 'timeout_s'?",
        ),
        ("[ops.mel]\nprefers = ['a']", "assay.toml:2: unknown key 'ops.mel.prefers': did you mean 'prefer'?"),
        ("[op.mel]\nprefer = ['a']", "assay.toml:2: unknown key 'op': did you mean 'ops'?"),
        ("ops.mel.batch = 3", "assay.toml:1: unknown key 'ops.mel.batch': did you mean 'batch_size'?"),
        ("threads = 1\npreset = 'fast'", "assay.toml:2: preset = 'fast': Input should be 'latency'"),
        ("[proof]\n\ntimeout_s = 0", "assay.toml:3: proof.timeout_s = 0: Input should be greater than 0"),
        ("[ops.mel]\nprefer = 'a'", "assay.toml:2: ops.mel.prefer = 'a': "),
        ("threads = ", "assay.toml is not valid TOML: "),
        ("threads = 1\nthreads = 2", "assay.toml is not valid TOML: "),
    ],
)
def test_a_mistake_names_file_line_and_near_name(text, says):
    """What is wrong, where it stands, and what was probably meant."""
    with pytest.raises(assay.ConfigError) as error:
        load(file(text), environ={})
    assert str(error.value).startswith(says)


def test_every_mistake_is_named():
    """Two mistakes are two lines."""
    with pytest.raises(assay.ConfigError) as error:
        load(file("thread = 1\n[proof]\nmode = 'on'\n"), environ={})
    lines = str(error.value).splitlines()
    assert sorted(line.split(": ")[0] for line in lines) == ["assay.toml:1", "assay.toml:3"]


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("ASSAY_PRESTE", "single", "unknown environment variable ASSAY_PRESTE: did you mean 'ASSAY_PRESET'?"),
        ("ASSAY_CONFG", "x", "did you mean 'ASSAY_CONFIG'?"),
        ("ASSAY_PROOF__MOD", "off", "unknown environment variable ASSAY_PROOF__MOD"),
        ("ASSAY_PROOF__MODE__X", "off", "unknown environment variable ASSAY_PROOF__MODE__X"),
        ("ASSAY_OPS__MEL", "off", "unknown environment variable ASSAY_OPS__MEL"),
        ("ASSAY_PROOF", "off", "ASSAY_PROOF"),
        ("ASSAY_THREADS", "many", "ASSAY_THREADS: threads = 'many': "),
        ("ASSAY_CONFIG", "no.toml", "configuration file no.toml (named by ASSAY_CONFIG) does not exist"),
    ],
)
def test_a_wrong_variable_is_named(variable, value, says):
    """A variable that means nothing is no silent one."""
    with pytest.raises(assay.ConfigError, match=re.escape(says)):
        load(environ={variable: value})


def test_a_file_that_is_named_must_be_there(tmp_path):
    """A missing file is not the same as no file; a folder and a binary file are none."""
    with pytest.raises(assay.ConfigError, match=r"no\.toml does not exist"):
        load("no.toml", environ={})
    with pytest.raises(assay.ConfigError, match="does not exist"):
        load(tmp_path, environ={})
    Path("binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(assay.ConfigError, match=r"binary\.toml cannot be read"):
        load("binary.toml", environ={})


class Plugin:
    """A live operation, so that names can be looked up."""

    @assay.hookimpl
    def assay_operations(self):
        yield assay.Operation(
            name="double",
            version="1",
            signature=lambda x, *, out=None: None,
            inputs=(assay.Input("x", frozenset({"float32"})),),
            infer=lambda x: assay.Spec(x.shape, x.dtype),
            reference=lambda x: x.astype(np.float64) * 2,
            probes=lambda rng, domain: iter(()),
            tolerance=lambda *given: assay.Tolerance(1e-6),
            standard=lambda rng: assay.Probe("standard", (np.ones(8, np.float32),), {}),
        )

    @assay.hookimpl
    def assay_implementations(self):
        yield assay.Implementation(op="double", name="plain", kernel=lambda x: x * np.float32(2))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "[ops.duble]\nprefer = ['plain']",
            "assay.toml:4: unknown operation 'duble' in ops.duble: did you mean 'double'?",
        ),
        (
            "[ops.double]\ndeny = ['plian']",
            "assay.toml:4: ops.double.deny names 'plian', which nobody offers: did you mean 'plain'?",
        ),
        (
            "[ops.double]\nrequire = 'double.plian'",
            "assay.toml:4: ops.double.require names 'double.plian', which nobody offers: ",
        ),
    ],
)
def test_names_that_nobody_offers(text, says):
    """An operation or implementation that does not exist is an error with file, line and near name."""
    path = file("[plugins]\nautoload = false\n" + text)
    with pytest.raises(assay.ConfigError) as error:
        assay.Runtime(path, plugins=[Plugin()], ops=())
    assert str(error.value).startswith(says)


def test_a_pattern_may_mean_nothing():
    """ "native-*" is right on a machine without native kernels too."""
    demand = {"plugins": {"autoload": False}, "ops": {"double": {"prefer": ["native-*"], "deny": ["xrt-?"]}}}
    assay.Runtime(demand, plugins=[Plugin()], ops=()).close()


def leaves(model: type[BaseModel], prefix: str = ""):
    """Every key of the configuration; of a table by name, one example."""
    for name, field in model.model_fields.items():
        if name == "ops":
            yield from leaves(field.annotation.__args__[1], "ops.mel.")
        elif name == "devices":
            yield "devices.xrt.index"
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from leaves(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def test_the_documentation_shows_every_key():
    """docs/configuration.md has every key, those that are not set behind a '#', and its example is valid."""
    (example,) = re.findall(r"```toml\n(.*?)```", DOC.read_text(), re.DOTALL)
    path = file(re.sub(r"^# (?=\w+ = )", "", example, flags=re.MULTILINE))
    loaded = load(path, environ={})
    assert set(loaded.sources) == set(leaves(Config))
