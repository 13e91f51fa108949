"""The command line on a small installed plugin: what it prints, what it returns, what it leaves behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from assay.cli import COMMANDS, main
from assay.scheduler.capture import save

TOY = Path(__file__).with_name("toy")


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    return tmp_path_factory.mktemp("ledger")


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch, ledger):
    """An empty folder to work in, in which only the toy plugin is installed and nothing is configured."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(TOY)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TOY), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no-config"))
    monkeypatch.setenv("ASSAY_PLUGINS__ALLOW", "toy")
    monkeypatch.setenv("COLUMNS", "300")  # so that no line is wrapped
    monkeypatch.setenv("ASSAY_PROOF__LEDGER", str(ledger))
    monkeypatch.delenv("ASSAY_CONFIG", raising=False)
    Path("numbers.txt").write_text("1 2.5 -3")
    return tmp_path


@pytest.fixture
def wrong(monkeypatch):
    """The wrong implementation is installed too."""
    monkeypatch.setenv("ASSAY_PLUGINS__ALLOW", "toy,wrong")


@pytest.fixture
def assay(capsys):
    """Run a command; returns the exit code, standard output and standard error."""

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def data(assay):
    """Run a command with --json; returns the exit code and the data."""

    def run(*arguments):
        code, out, _ = assay(*arguments, "--json")
        return code, json.loads(out)

    return run


def test_help_lists_every_command(assay):
    """Without a command there is help, and it names all of them."""
    code, out, _ = assay()
    assert code == 2
    assert all(f"  {name.replace('_', '-')} " in out for name in COMMANDS)


def test_version(assay):
    """--version is one line."""
    assert assay("--version") == (0, "assay 0.1.0\n", "")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["stats"], "Did you mean 'status'?"),
        (["explain"], "Missing argument 'OP'"),
        (["explain", "double", "--jsn"], "--json"),
        (["explain", "duble"], "no plugin offers an operation 'duble': did you mean 'double'?"),
        (["run", "double", "numbers.txt", "-p", "time=3"], "no parameter 'time': did you mean 'times'?"),
        (["run", "double", "numbers.txt", "-p", "times"], "write NAME=VALUE"),
        (["run", "double", "numbers.txt", "--require", "plian"], "did you mean 'plain'?"),
        (["run", "double", "numbers.txt", "-o", "x.txt"], "must end in .npy"),
        (["bench", "double", "--batch-sizes", "1,x"], "whole numbers from 1"),
        (["bench", "double", "--batch-sizes", "0"], "whole numbers from 1"),
        (["compare", "plain", "items", "numbers.txt"], "name no operation"),
        (["compare", "double.plain", "gelu.numpy", "numbers.txt"], "name two operations"),
        (["compare", "double.plain", "itms", "numbers.txt"], "did you mean 'items'?"),
        (["prove", "double.plan"], "did you mean 'double.plain'?"),
        (["status", "--config", "missing.toml"], "missing.toml does not exist"),
    ],
)
def test_misuse_is_one_line_and_exit_2(assay, arguments, says):
    """What was mistyped is answered with the near name."""
    code, out, err = assay(*arguments)
    assert (code, out) == (2, "")
    assert says in err
    assert err.startswith("assay: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("missing.txt", None, "does not exist"),
        ("words.txt", b"one two", "cannot be read: could not convert string to float: 'one'"),
        ("fake.npy", b"hello", "is no NumPy file"),
        ("cut.npy", b"\x93NUMPY\x01\x00", "cannot be read"),
    ],
)
def test_bad_input_is_one_line_exit_1_and_no_output(assay, name, content, says):
    """A file that cannot be used costs one line, and leaves nothing behind."""
    if content is not None:
        Path(name).write_bytes(content)
    before = set(Path().iterdir())
    code, out, err = assay("run", "double", name, "-o", "out.npy", "--plot", "out.png")
    assert (code, out) == (1, "")
    assert says in err
    assert err.count("\n") == 1
    assert set(Path().iterdir()) == before


def test_status_shows_what_serves(data):
    """The table's facts: who serves, how right, how fast, how many stand by."""
    code, found = data("status")
    assert code == 0
    (row,) = found["operations"]
    assert row["chosen"] == "double.plain"
    assert (row["standby"], row["rejected"]) == (2, 1)
    assert 0 <= row["error"] <= row["limit"] == 1e-5
    assert row["work_per_second"] == pytest.approx(64 / row["seconds"])
    assert (row["device"], row["batch_size"], row["warnings"]) == ("cpu:0", None, [])


def test_status_warns_of_a_faster_standby(assay, monkeypatch):
    """A preference that costs speed is obeyed, and said."""
    monkeypatch.setenv("ASSAY_OPS__DOUBLE__PREFER", "slow")
    code, out, _ = assay("status")
    assert code == 0
    assert "the standby double.plain was" in out


def test_status_warns_that_nothing_is_proved(data, monkeypatch):
    """proof.mode = "off" serves, and is said."""
    monkeypatch.setenv("ASSAY_PROOF__MODE", "off")
    code, found = data("status")
    (row,) = found["operations"]
    assert code == 0
    assert row["error"] is None
    assert any("without proof" in warning for warning in row["warnings"])


@pytest.mark.usefixtures("wrong")
def test_status_warns_of_a_preference_that_failed(data, monkeypatch):
    """A preferred implementation that was rejected is not passed over in silence."""
    monkeypatch.setenv("ASSAY_OPS__DOUBLE__PREFER", "zeros")
    _, found = data("status")
    assert any(
        "the preferred 'zeros' was rejected (inaccurate)" in w for w in found["operations"][0]["warnings"]
    )


def test_status_says_when_nothing_serves(assay, monkeypatch):
    """An operation without an implementation is exit 1."""
    monkeypatch.setenv("ASSAY_OPS__DOUBLE__DENY", "*")
    code, out, _ = assay("status")
    assert code == 1
    assert "nothing can serve it; assay explain double says why" in out


@pytest.mark.usefixtures("wrong")
def test_explain_names_everyone_with_remedies(assay):
    """Every candidate is there, each rejection with what to do, and what needs doing below."""
    code, out, _ = assay("explain", "double")
    assert code == 0
    assert all(f"double.{name}" in out for name in ("plain", "items", "slow", "zeros", "lacking"))
    assert "-> pip install 'no-such-package>=2'" in out
    assert "it looks like zeros" in out
    assert "To mend: double.zeros." in out
    assert "May outrank double.plain once its remedy is followed: double.lacking." in out


@pytest.mark.usefixtures("wrong")
def test_explain_as_data(data):
    """--json says which remedies need following."""
    _, found = data("explain", "double")
    needs = {one["id"]: one["remedy_needed"] for one in found["candidates"]}
    assert needs == {
        "double.plain": "none",
        "double.items": "none",
        "double.slow": "none",
        "double.zeros": "now",
        "double.lacking": "optional",
    }


def test_run_writes_and_says_what_ran(assay):
    """The result is the operation's, and the report names the kernel that made it."""
    code, out, err = assay(
        "run", "double", "numbers.txt", "-p", "times=3", "-o", "deep/out.npy", "--plot", "out.svg"
    )
    assert (code, err) == (0, "")
    np.testing.assert_array_equal(np.load("deep/out.npy"), np.float32([3, 7.5, -9]))
    assert Path("out.svg").read_text() == "numbers.txt: [3.0, 7.5, -9.0]"
    assert "double.plain (assay-toy 1.0)" in out


def test_run_reads_arrays(data):
    """A .npy holds the input, a .npz names it."""
    np.save("x.npy", np.float32([1, 2]))
    np.savez("x.npz", x=np.float32([1, 2, 3]))
    assert data("run", "double", "x.npy")[1]["shape"] == [2]
    assert data("run", "double", "x.npz")[1]["shape"] == [3]


def test_run_refuses_an_unknown_array(assay):
    """A .npz with another name is told the right one."""
    np.savez("y.npz", xx=np.float32([1]))
    code, _, err = assay("run", "double", "y.npz")
    assert code == 1
    assert "holds 'xx', which is no input of double: did you mean 'x'?" in err


def test_run_required(data):
    """--require runs that one, in its own batches."""
    Path("many.txt").write_text("1 " * 9)
    _, report = data("run", "double", "many.txt", "--require", "items")
    assert (report["implementation"], report["batch_size"], report["batches"]) == ("double.items", 4, 3)


@pytest.mark.usefixtures("wrong")
def test_run_required_but_rejected(assay):
    """--require of a rejected one fails closed, with the reasons."""
    code, out, err = assay("run", "double", "numbers.txt", "--require", "zeros", "-o", "out.npy")
    assert (code, out) == (1, "")
    assert "required 'zeros' may not serve" in err
    assert not Path("out.npy").exists()


def test_run_leaves_no_half_written_file(assay):
    """When the picture fails, the features are not left there either."""
    Path("unlucky.txt").write_text("1")
    before = set(Path().iterdir())
    code, _, err = assay("run", "double", "unlucky.txt", "-o", "out.npy", "--plot", "out.png")
    assert (code, err) == (1, "assay: the pencil broke\n")
    assert set(Path().iterdir()) == before


def test_run_that_fails_leaves_the_older_result(assay):
    """What was there before is there after, whole."""
    Path("unlucky.txt").write_text("1")
    Path("out.npy").write_text("older")
    Path("out.png").write_text("older")
    assert assay("run", "double", "unlucky.txt", "-o", "out.npy", "--plot", "out.png")[0] == 1
    assert Path("out.npy").read_text() == Path("out.png").read_text() == "older"


def test_run_reports_an_unwritable_place(assay):
    """A folder that is a file is one line."""
    Path("file").touch()
    code, _, err = assay("run", "double", "numbers.txt", "-o", "file/out.npy")
    assert code == 1
    assert err.startswith("assay: file/out.npy cannot be written: ")


def test_bench_measures_batches(data):
    """Calls and held bytes follow from the batch size; whole kernels are rows of their own."""
    code, found = data("bench", "double", "--batch-sizes", "1,4,5,16")
    assert code == 0
    items = {row["batch_size"]: row for row in found["rows"] if row["id"] == "double.items"}
    assert {size: row["calls"] for size, row in items.items()} == {1: 64, 4: 16, 16: 4}
    assert {size: row["bytes_held"] for size, row in items.items()} == {1: 8, 4: 32, 16: 128}
    assert items[1]["speed_up"] == 1.0
    assert items[16]["seconds"] == pytest.approx(4 * items[16]["latency_seconds"])
    whole = {row["id"] for row in found["rows"] if row["batch_size"] is None}
    assert whole == {"double.plain", "double.slow"}


def test_bench_takes_a_file(assay):
    """The user's own input is measured, and named in the table's unit."""
    code, out, _ = assay("bench", "double", "numbers.txt", "--require", "items", "--batch-sizes", "4")
    assert code == 0
    assert out.startswith("double, 3 elements, median of 7 rounds")


def test_compare(data):
    """Two right ones differ by nothing, each within the tolerance of the definition."""
    code, found = data("compare", "double.plain", "items", "numbers.txt", "--plot", "difference.png")
    assert code == 0
    assert found["difference"] == 0
    assert [row["id"] for row in found["implementations"]] == ["double.plain", "double.items"]
    assert all(row["error"] <= row["limit"] == 1e-5 for row in found["implementations"])
    assert "double.plain - double.items" in Path("difference.png").read_text()


def test_prove_shows_every_probe(assay):
    """One implementation: each probe with its error."""
    code, out, _ = assay("prove", "double.items")
    assert code == 0
    assert all(f"{n} elements" in out for n in (8, 0, 1, 17))
    assert "Seed " in out


@pytest.mark.usefixtures("wrong")
def test_prove_rejects(assay):
    """A wrong one is exit 1 with what caught it."""
    code, out, _ = assay("prove", "double")
    assert code == 1
    assert "it looks like zeros" in out
    assert "1 more cannot run here or are denied" in out


def test_prove_frozen_proves_nothing(assay, tmp_path, monkeypatch):
    """--frozen only asks; once proved, it is content, though the program's own mode is frozen too."""
    monkeypatch.setenv("ASSAY_PROOF__LEDGER", str(tmp_path / "new"))
    monkeypatch.setenv("ASSAY_PROOF__MODE", "frozen")
    code, out, _ = assay("prove", "double.plain", "--frozen")
    assert code == 1
    assert "no valid certificate" in out
    assert assay("prove", "double.plain")[0] == 0
    assert assay("prove", "double.plain", "--frozen")[0] == 0


def test_replay_runs_a_captured_input_again(assay, data, tmp_path, monkeypatch):
    """Everyone's result is held against the reference; exit 1 while the one that failed still does."""
    import assay_toy

    (op,) = assay_toy.assay_operations()
    x = np.asarray([1, -2.5], np.float32)
    fixed, failing = (
        save(tmp_path / "kept", 5, op, f"double.{name}", (x,), {"times": 3}, "raised OSError: a bad day")
        for name in ("plain", "zeros")
    )
    code, out, _ = assay("replay", fixed)
    assert code == 0
    assert "double.plain failed on it at " in out
    assert "raised OSError: a bad day" in out

    monkeypatch.setenv("ASSAY_PLUGINS__ALLOW", "toy,wrong")
    monkeypatch.setenv("ASSAY_PROOF__MODE", "off")
    code, told = data("replay", failing)
    wrong = {one["id"]: bool(one["wrong"]) for one in told["outcomes"]}
    assert (code, wrong["double.zeros"], wrong["double.plain"]) == (1, True, False)
    assert told["params"] == {"times": 3}

    code, _, err = assay("replay", tmp_path / "none.npz")
    assert (code, err.count("\n")) == (1, 1)


def test_plugins(data):
    """What is installed and what it offers."""
    code, found = data("plugins")
    assert code == 0
    (toy,) = [plugin for plugin in found["plugins"] if plugin["plugin"] == "toy"]
    assert toy["distribution"] == "assay-toy 1.0"
    assert "double" in toy["offers"]
    assert "double.plain" in toy["offers"]


def test_config_shows_where_values_come_from(data, ledger):
    """File and line, variable, or default."""
    Path("my.toml").write_text("# mine\nthreads = 1\n[ops.double]\nprefer = ['items']\n")
    _, found = data("config", "--config", "my.toml")
    values = {one["key"]: (one["value"], one["source"]) for one in found["values"]}
    assert values["threads"] == (1, "my.toml:2")
    assert values["ops.double.prefer"] == (["items"], "my.toml:4")
    assert values["proof.ledger"] == (str(ledger), "ASSAY_PROOF__LEDGER")
    assert values["preset"] == ("balanced", "default")


def test_config_check(assay):
    """A valid file is exit 0; mistakes are exit 1, each with file, line and near name."""
    Path("good.toml").write_text("preset = 'latency'\n")
    assert assay("config", "--check", "good.toml") == (0, "good.toml is valid: 1 value(s)\n", "")
    Path("bad.toml").write_text("preset = 'latent'\n[prof]\nmode = 'off'\n")
    code, out, _ = assay("config", "--check", "bad.toml")
    assert code == 1
    assert "bad.toml:1: preset = 'latent'" in out
    assert "bad.toml:3: unknown key 'prof': did you mean 'proof'?" in out


def test_config_check_looks_names_up(assay):
    """A file that names an implementation that nobody offers is not valid."""
    Path("bad.toml").write_text("[ops.double]\nprefer = ['plian']\n")
    code, out, _ = assay("config", "--check", "bad.toml")
    assert code == 1
    assert out.startswith("bad.toml:2: ops.double.prefer names 'plian'")
    assert "did you mean 'plain'?" in out


def test_local_file_is_taken_and_said(assay):
    """./assay.toml counts on the command line, which says so; a named file goes before it."""
    Path("assay.toml").write_text("[ops.double]\nprefer = ['items']\n")
    code, out, err = assay("explain", "double")
    assert (code, err) == (0, "assay: using ./assay.toml\n")
    assert out.startswith("double: double.items")
    Path("other.toml").write_text("")
    code, out, err = assay("explain", "double", "--config", "other.toml")
    assert (code, err) == (0, "")
    assert out.startswith("double: double.plain")


@pytest.mark.usefixtures("wrong")
def test_doctor_reports(data):
    """What is there is ok; a wrong implementation is exit 1 with its remedy."""
    code, found = data("doctor")
    by_about = {finding["about"]: finding for finding in found["findings"]}
    assert code == 1
    assert by_about["plugin toy"]["health"] == "ok"
    assert by_about["package no-such-package"]["remedy"] == "pip install 'no-such-package>=2'"
    assert by_about["double.zeros"]["health"] == "wrong"
    assert by_about["operation double"]["what"].startswith("double.plain serves")


def test_doctor_is_content(assay):
    """Without the wrong one there is nothing to mend, and the exit code says so."""
    code, out, _ = assay("doctor")
    assert code == 0
    assert out.rstrip().endswith("Nothing is wrong.")


def test_doctor_tries_the_ledger(data, monkeypatch):
    """A folder that cannot be written is wrong, with its remedy."""
    Path("file").touch()
    monkeypatch.setenv("ASSAY_PROOF__LEDGER", str(Path("file/ledger").absolute()))
    code, found = data("doctor")
    (finding,) = [finding for finding in found["findings"] if finding["about"] == "ledger"]
    assert (code, finding["health"]) == (1, "wrong")
    assert "set [proof] ledger to a folder of your own" in finding["remedy"]


def test_doctor_survives_a_bad_configuration(data):
    """A configuration that cannot be read is a finding, not the end."""
    Path("bad.toml").write_text("tread = 1\n")
    code, found = data("doctor", "--config", "bad.toml")
    (finding,) = [
        finding
        for finding in found["findings"]
        if finding["about"] == "configuration" and finding["health"] == "wrong"
    ]
    assert code == 1
    assert "did you mean 'threads'?" in finding["what"]


def test_failing_plugin_is_reported(assay, tmp_path, monkeypatch):
    """A plugin that raises on import costs a line, and the rest works."""
    broken = tmp_path / "site"
    (broken / "assay_broken-1.dist-info").mkdir(parents=True)
    (broken / "assay_broken-1.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: assay-broken\nVersion: 1\n"
    )
    (broken / "assay_broken-1.dist-info/entry_points.txt").write_text("[assay]\nbroken = assay_broken\n")
    (broken / "assay_broken.py").write_text("raise OSError('no luck')\n")
    monkeypatch.syspath_prepend(broken)
    monkeypatch.setenv("ASSAY_PLUGINS__ALLOW", "toy,broken")
    code, out, err = assay("run", "double", "numbers.txt")
    assert code == 0
    assert "double.plain" in out
    assert err == "assay: failed to load: broken (assay doctor says why)\n"
    assert assay("plugins")[0] == 1
    assert "OSError: no luck" in assay("doctor")[1]


def run(*arguments, code="from assay.cli import main; raise SystemExit(main())"):
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120
    )


def test_real_process():
    """Another process, as a shell would start it: the result on standard output, nothing beside it."""
    done = run("run", "double", "numbers.txt", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["implementation"] == "double.plain"


def test_real_process_exit_codes():
    """The exit code reaches the shell, without a traceback."""
    assert run("explain", "duble").returncode == 2
    failed = run("run", "double", "missing.txt")
    assert (failed.returncode, failed.stderr) == (1, "assay: missing.txt does not exist\n")


def test_without_the_extra():
    """Where typer is not installed, one line says what to install."""
    code = "import sys; sys.modules['typer'] = None; from assay.cli import main; raise SystemExit(main())"
    done = run("status", code=code)
    assert (done.returncode, done.stderr) == (
        2,
        "assay: the command line needs typer: pip install 'assay[cli]'\n",
    )
