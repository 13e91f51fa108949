"""Certificates on disk: whole or not there, for exactly what they name, and never a reason not to start."""

import json
import logging
import os
import re
import shutil
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import assay
import pytest
from assay.contract.candidate import Certificate, Measurement
from assay.contract.errors import AssayError
from assay.negotiation.ledger import KEPT, Ledger, Race

TOY = Path(__file__).with_name("toy")
KEY = {"implementation": "double.plain", "numpy": "2.0", "python": "3.11"}


def certificate(**key):
    return Certificate(
        id="double.plain",
        seed=7,
        accuracy=assay.Accuracy.EXACT,
        measurements=(Measurement("noise", 1e-7, 1e-6), Measurement("tone", 2e-7, 1e-6, 1e-8, 1e-7)),
        seconds=1e-3,
        made="2026-01-01T00:00:00+00:00",
        key={**KEY, **key},
    )


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "ledger")


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A copy of the toy plugin to change, and nothing else installed."""
    shutil.copytree(TOY, tmp_path / "toy", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.syspath_prepend(tmp_path / "toy")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no-config"))
    for name in [name for name in os.environ if name.startswith("ASSAY_")]:
        monkeypatch.delenv(name)
    forget_toy()  # another module's tests may have loaded theirs in this process
    yield tmp_path / "toy"
    forget_toy()


def forget_toy():
    for name in [name for name in sys.modules if name.startswith("assay_toy")]:
        del sys.modules[name]


def start(folder, mode="cached", ops=("double",)):
    """Open a runtime on the toy; returns its decision and what was proved."""
    proved = []
    config = {
        "plugins": {"allow": ["toy"]},
        "proof": {"ledger": str(folder), "mode": mode},
        "ops": {"double": {"deny": ["slow", "items"]}},
    }
    with assay.Runtime(config, progress=proved.append, ops=ops) as runtime:
        return runtime.explain("double"), proved


def test_what_is_written_is_found(ledger):
    """By exactly its key."""
    ledger.write(certificate())

    assert ledger.find(KEY) == certificate()
    assert ledger.find({**KEY, "numpy": "2.1"}) is None
    assert ledger.all() == [certificate()]


def test_a_mismatch_names_the_field(ledger):
    """The nearest certificate is the one that is compared with."""
    ledger.write(certificate())
    ledger.write(certificate(numpy="1.26", python="3.10"))

    assert ledger.why_not({**KEY, "numpy": "2.1"}) == "numpy was 2.0, is 2.1"
    assert ledger.why_not({**KEY, "driver": "2.20"}) == "driver was absent, is 2.20"
    assert ledger.why_not({**KEY, "implementation": "double.other"}) == ""


def test_no_flipped_bit_is_trusted(ledger):
    """Whichever bit of the file is flipped: the certificate is gone, and set aside."""
    ledger.write(certificate())
    (path,) = ledger.folder.glob("*.json")
    sound = path.read_bytes()
    logging.getLogger("assay").setLevel(logging.CRITICAL)
    try:
        for place in range(len(sound)):
            for bit in range(8):
                path.write_bytes(sound[:place] + bytes([sound[place] ^ (1 << bit)]) + sound[place + 1 :])
                assert ledger.find(KEY) is None, (place, bit)
                assert not path.exists()
    finally:
        logging.getLogger("assay").setLevel(logging.NOTSET)
    path.write_bytes(sound)
    assert ledger.find(KEY) == certificate()


def test_no_truncated_file_is_trusted(ledger, caplog):
    """At any length, nothing of it is used, and a warning names the file."""
    ledger.write(certificate())
    (path,) = ledger.folder.glob("*.json")
    sound = path.read_bytes()
    for length in range(len(sound)):
        path.write_bytes(sound[:length])
        assert ledger.find(KEY) is None, length
    assert "event=ledger.damaged" in caplog.text
    assert str(path) in caplog.text
    assert path.with_suffix(".damaged").exists()


@pytest.mark.parametrize(
    "rubbish",
    [b"", b"\xff\xfe", b"[]", b"{}", b"null", b"0", b'"x"', b"[" * 100_000, b'{"sha256": 1, "body": 2}'],
    ids=lambda rubbish: repr(rubbish[:12]),
)
def test_rubbish_is_set_aside(ledger, rubbish):
    """Whatever stands there."""
    ledger.write(certificate())
    (path,) = ledger.folder.glob("*.json")
    path.write_bytes(rubbish)

    assert ledger.find(KEY) is None
    assert ledger.all() == []


def test_a_certificate_under_another_name_is_not_found(ledger):
    """Its own key counts, not the file's name."""
    ledger.write(certificate())
    ledger.write(certificate(numpy="1.26"))
    right, wrong = (ledger._path({**KEY, "numpy": numpy}) for numpy in ("2.0", "1.26"))
    shutil.copy(wrong, right)

    assert ledger.find(KEY) is None


def test_the_oldest_are_forgotten(ledger):
    """A kernel under development does not fill the disk."""
    for number in range(KEPT + 5):
        ledger.write(certificate(module=str(number)))
    assert len(list(ledger.folder.glob("*.json"))) == KEPT
    assert ledger.find({**KEY, "module": str(KEPT + 4)}) is not None


def test_certificates_travel(ledger, tmp_path):
    """What one machine exports, another one of its kind imports."""
    ledger.write(certificate())
    ledger.export(tmp_path / "file", ledger.all())
    other = Ledger(tmp_path / "other")

    assert other.import_(tmp_path / "file") == [certificate()]
    assert other.find(KEY) == certificate()


def test_a_damaged_export_is_refused_whole(ledger, tmp_path):
    """Nothing of it is taken, wherever it is damaged."""
    ledger.export(tmp_path / "file", [certificate(), certificate(numpy="1.26")])
    sound = (tmp_path / "file").read_bytes()
    for place in range(0, len(sound), 7):
        (tmp_path / "file").write_bytes(sound[:place] + bytes([sound[place] ^ 4]) + sound[place + 1 :])
        try:
            taken = ledger.import_(tmp_path / "file")
        except AssayError:
            taken = []
        assert taken in ([], [certificate(), certificate(numpy="1.26")]), place


def test_races_are_for_exactly_the_candidates_that_ran(ledger):
    """Another certificate of one of them is another race."""

    class Racer:
        def __init__(self, certificate):
            self.certificate = certificate

    first, second = Racer(certificate()), Racer(replace(certificate(), id="double.items"))
    race = Race("double", {"double.plain": 1e-3}, [[(3, 4)]], {"times": 3})
    ledger.write_race(race, [first, second])

    assert ledger.race("double", [second, first]) == race
    assert ledger.race("double", [first, Racer(certificate(numpy="1.26"))]) is None
    assert ledger.tuned("double") == race
    ledger.write_race(Race("double", {"double.plain": 2e-3}), [first, second])
    assert ledger.tuned("double") is None


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_no_outage(ledger, caplog):
    """It is said once."""
    ledger.write(certificate())
    ledger.folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        ledger.write(certificate(numpy="2.1"))
        with ledger.lock("double.plain", 1.0):
            pass
        assert ledger.find(KEY) == certificate()
    finally:
        ledger.folder.chmod(0o755)
    assert caplog.text.count("event=ledger.") == 1


def test_a_folder_that_cannot_be_is_no_outage(tmp_path, caplog):
    """A file in its place costs the memory between starts, and is said once."""
    (tmp_path / "file").write_text("in the way")
    ledger = Ledger(tmp_path / "file" / "ledger")

    ledger.write(certificate())
    with ledger.lock("double.plain", 1.0):
        pass
    assert ledger.find(KEY) is None
    assert ledger.why_not(KEY) == ""
    assert ledger.all() == []
    assert caplog.text.count("event=ledger.") == 1


def test_a_second_start_proves_nothing(toy, tmp_path):
    """The certificates of the first are there, and the decision is the same."""
    first, proved = start(tmp_path / "ledger")
    second, again = start(tmp_path / "ledger")

    assert "double.plain" in proved
    assert again == []
    assert first.chosen == second.chosen == "double.plain"
    assert second["plain"].seconds == first["plain"].seconds


@pytest.mark.parametrize("damage", ["delete", "empty", "cut", "garble", "flip", "folder"])
def test_no_damage_lets_a_kernel_serve_without_proof(toy, tmp_path, damage):
    """It is proved anew, and serves."""
    start(tmp_path / "ledger")
    (path,) = (tmp_path / "ledger").glob("double.plain-*.json")
    sound = path.read_bytes()
    if damage in ("delete", "folder"):
        path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "delete":
        half = len(sound) // 2
        flipped = sound[:half] + bytes([sound[half] ^ 1]) + sound[half + 1 :]
        path.write_bytes(
            {"empty": b"", "cut": sound[:half], "garble": os.urandom(99), "flip": flipped}[damage]
        )

    decision, proved = start(tmp_path / "ledger")
    assert proved == ["double.plain"]
    assert decision.chosen == "double.plain"


def reasons(decision, name="plain"):
    return [reason.message for reason in decision[name].reasons]


def test_one_byte_of_the_kernels_file_makes_its_certificate_void(toy, tmp_path):
    """And explain says that it was the module."""
    start(tmp_path / "ledger")
    module = toy / "assay_toy.py"
    module.write_text(module.read_text() + "#")

    decision, proved = start(tmp_path / "ledger")
    assert proved == ["double.plain"]
    assert "its certificate was void: " in reasons(decision)[0]
    assert re.search("module was [0-9a-f]{8}, is [0-9a-f]{8}(;|$)", reasons(decision)[0])
    assert "numpy was" not in reasons(decision)[0]


def install(folder, name, version):
    info = folder / f"{name.replace('-', '_')}.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "RECORD").write_text(f"{name}.py,sha256=x,1\n")


def test_another_version_of_a_required_package_makes_a_certificate_void(toy, tmp_path):
    """And explain says which package, from what to what."""
    module = toy / "assay_toy.py"
    text = (
        module.read_text()
        .replace("no-such-package>=2", "fancy>=2")
        .replace("assay_toy:{name}", "assay_toy:plain")
    )
    module.write_text(text)
    install(toy, "fancy", "2.0")
    start(tmp_path / "ledger")
    install(toy, "fancy", "2.1")

    decision, proved = start(tmp_path / "ledger")
    assert proved[0] == "double.lacking"
    assert "double.plain" not in proved
    assert reasons(decision, "lacking")[0].startswith(
        "proved anew, since its certificate was void: package fancy was 2.0 "
    )
    assert ", is 2.1 " in reasons(decision, "lacking")[0]


def test_frozen_refuses_whatever_has_no_valid_certificate(toy, tmp_path):
    """It proves nothing, and says what changed."""
    empty, proved = start(tmp_path / "ledger", "frozen")
    assert (empty.chosen, proved) == (None, [])
    assert empty["plain"].reasons[-1].code is assay.ReasonCode.NO_CERTIFICATE

    start(tmp_path / "ledger")
    assert start(tmp_path / "ledger", "frozen")[0].chosen == "double.plain"

    module = toy / "assay_toy.py"
    module.write_text(module.read_text() + "#")
    changed, proved = start(tmp_path / "ledger", "frozen")
    assert (changed.chosen, proved) == (None, [])
    assert "module was " in " ".join(reasons(changed))


def test_always_proves_at_every_start(toy, tmp_path):
    """Whatever the ledger holds."""
    assert start(tmp_path / "ledger", "always")[1] == ["double.plain"]
    assert start(tmp_path / "ledger", "always")[1] == ["double.plain"]


def test_off_proves_nothing_and_says_so(toy, tmp_path):
    """Every candidate carries the reason."""
    decision, proved = start(tmp_path / "ledger", "off")
    assert (decision.chosen, proved) == ("double.plain", [])
    assert decision["plain"].reasons[0].code is assay.ReasonCode.UNPROVEN


def test_sixteen_processes_start_at_once(toy, tmp_path):
    """All of them serve, the ledger is whole, and most of them proved nothing."""
    program = f"""
import json, sys
sys.path.insert(0, {str(toy)!r})
import assay
proved = []
proof = {{"ledger": {str(tmp_path / "ledger")!r}, "timeout_s": 120}}
config = {{"plugins": {{"allow": ["toy"]}}, "proof": proof}}
with assay.Runtime(config, progress=proved.append) as runtime:
    print(json.dumps([runtime.explain("double").chosen, runtime.run("double", [1.0, 2.5]).tolist(), proved]))
"""
    command = [sys.executable, "-c", program]
    many = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(16)
    ]
    done = [process.communicate(timeout=600) for process in many]
    assert [process.returncode for process in many] == [0] * 16, [error for _, error in done]
    answers = [json.loads(out) for out, _ in done]
    assert {answer[0] for answer in answers} == {"double.plain"}
    assert all(answer[1] == [2.0, 5.0] for answer in answers)
    proofs = [id for answer in answers for id in answer[2] if "turns" not in id]
    assert sorted(set(proofs)) == ["double.items", "double.plain", "double.slow"]
    assert len(proofs) == 3
    ledger = Ledger(tmp_path / "ledger")
    assert sorted(one.id for one in ledger.all()) == ["double.items", "double.plain", "double.slow"]
    assert not list(ledger.folder.glob("*.damaged"))
    assert not list(ledger.folder.glob("*.part"))


def test_a_callable_is_known_by_its_code(toy, tmp_path):
    """A declared function, also one with arguments bound: a byte of its module voids its certificate."""
    code, module = toy / "assay_toy_code.py", toy / "assay_toy.py"
    code.write_text("def kernel(out, x, *, times):\n    return times * x\n")
    text = module.read_text().replace('offer("plain")', "offer_a_callable()")
    text = text.replace("    def offer(", OFFER_A_CALLABLE + "    def offer(")
    module.write_text(text)
    start(tmp_path / "ledger")
    code.write_text("def kernel(out, x, *, times):\n    return x * times\n")

    decision, proved = start(tmp_path / "ledger")
    assert proved == ["double.plain"]
    assert "module was " in reasons(decision)[0]


OFFER_A_CALLABLE = """\
    def offer_a_callable():
        from functools import partial

        from assay_toy_code import kernel

        return assay.Implementation(op="double", name="plain", kernel=partial(kernel, None))

"""
