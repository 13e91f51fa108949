"""Kernel manifests: what is wrong with one is said with file, key and line, and costs only that one."""

import os
from pathlib import Path

import assay
import npus
import pytest
from assay.devices.xrt.manifest import Manifest, read
from assay.testing import simxrt

DOCS = Path(__file__).parents[2] / "docs/npu.md"


@pytest.fixture
def path(tmp_path):
    """A manifest that is right."""
    return npus.write_manifest(tmp_path / "kernels")


def error(path):
    """What the one broken manifest is said to be."""
    (problem,) = [str(offer) for offer in assay.manifests(path) if isinstance(offer, Exception)]
    return problem


def number(path, text, nth=1):
    """The line of the nth occurrence of a text, from 1."""
    lines = [i for i, line in enumerate(path.read_text().splitlines(), start=1) if text in line]
    return lines[nth - 1]


def test_one_that_is_right(path):
    """It gives one implementation, with everything that negotiation has to know."""
    (made,) = assay.manifests(path.parent)
    capabilities = made.capabilities
    assert made.id == "flip.xrt-batch"
    assert (capabilities.batch_sizes, capabilities.accuracy) == (assay.BatchSizes(4, 16), "approximate")
    assert capabilities.buffer_flags == ("normal", "host_only")
    assert capabilities.requires.generations == {"npu1"}
    named = {file.name for file in capabilities.requires.artifacts}
    assert named == {"kernel.toml", "4.bin", "4.xclbin", "16.bin", "16.xclbin"}


WRONG = [
    ('name = "xrt-batch"', 'name = "XRT batch"', "name", "pattern"),
    ('length_unit = "bytes"', 'length_unit = "octets"', "length_unit", "'bytes' or 'words'"),
    ('length_unit = "bytes"', 'lenght_unit = "bytes"', "lenght_unit", "did you mean 'length_unit'?"),
    ('generations = ["npu1"]', 'generations = ["npu3"]', "generations", "'npu1' or 'npu2'"),
    ('["normal", "host_only"]', '["normal", "host"]', "buffer_flags.1", "'host_only'"),
    ("watchdog_s = 5.0", "watchdog_s = 0", "watchdog_s", "greater than 0"),
    ("watchdog_s = 5.0", 'driver = "two"', "driver", "is not a version range"),
    ('xclbin = "4.xclbin"', 'xclbin = "../4.xclbin"', "manifest", "leads out of the manifest's folder"),
    ('xclbin = "4.xclbin"', 'xclbin = "/etc/passwd"', "manifest", "leads out of the manifest's folder"),
    ("batch_size = 16", "batch_size = 4", "designs", "each design has its own"),
    ("batch_size = 16", "batch_size = 0", "designs.1.batch_size", "greater than or equal to 1"),
    ("batch_size = 16", 'batch_size = 16\nuuid = ""', "designs.1.uuid", "known: batch_size"),
    ("argument = 6", "argument = 2", "buffers.3.argument", "greater than or equal to 3"),
    ("argument = 6", "argument = 5", "buffers", "each buffer has its own"),
    ('factor = "factor"', 'facter = "factor"', "buffers.0.facter", "did you mean 'factor'?"),
    ("from_data = true", "fromdata = true", "buffers.0.quantisation.fromdata", "did you mean 'from_data'?"),
    ("from_data = true", "clip = [-99999, 3]", "buffers.0", "-99999 does not fit int16"),
    ("from_data = true", "clip = [3, 3]", "buffers.0.quantisation", "first is smaller"),
    ("quantisation = { scale = 1e-3 }", "", "buffers.2", "give it a quantisation"),
    (
        "quantisation = { scale = 1e-3 }",
        "quantisation = { scale = 0.0 }",
        "buffers.2.quantisation",
        "greater than 0",
    ),
    (
        "quantisation = { scale = 1e-3 }",
        "quantisation = { scale = 1.0, from_data = true }",
        "buffers.2",
        "for inputs",
    ),
    ('role = "output"', 'role = "input"', "buffers", "2 and 0"),
    ("argument = 4", 'argument = 4\ngain = "linear"', "buffers.1", "gain and minimum are for the output"),
    ("argument = 5", 'argument = 5\nfactor = "factor"', "buffers.2", "factor is for inputs"),
    ("argument = 5", "argument = 5\nscales_behind = true", "buffers", "takes none, or has another"),
]


@pytest.mark.parametrize(("old", "new", "key", "said"), WRONG)
def test_what_is_wrong_is_said_with_key_and_line(path, old, new, key, said):
    """The file, the line and the key come first, then what was expected."""
    npus.change(path, old, new)
    text = error(path)
    where, _, message = next(line for line in text.splitlines() if f": {key}" in line).partition(f": {key}")
    assert where.startswith(f"{path}:"), text
    assert said in message, text
    line = int(where.removeprefix(f"{path}:"))
    if key == "manifest":
        return
    table, *rest = key.split(".")
    if len(rest) < 2:
        wanted = {"designs": "[[designs]]", "buffers": "[[buffers]]"}.get(table, table)
        assert line == number(path, wanted, int(rest[0]) + 1 if rest and wanted != table else 1)
    else:
        assert rest[1] in path.read_text().splitlines()[line - 1]


def test_too_many_buffers(path):
    """More than five have made some versions of XRT crash."""
    path.write_text(path.read_text() + (npus.BUFFERS.split("\n\n")[1] + "\n") * 2)
    assert "buffers: Tuple should have at most 5 items" in error(path)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_real_values_take_no_quantisation(path, dtype):
    """Floats are what they are."""
    text = path.read_text()
    at = text.rindex('dtype = "int16"')
    path.write_text(text[:at] + f'dtype = "{dtype}"' + text[at + len('dtype = "int16"') :])
    assert f"{dtype} holds real values and takes no quantisation" in error(path)


def test_a_scale_of_nothing(path):
    """A scale belongs to an input or the result by name; the near one is shown."""
    path.write_text(
        path.read_text().replace('name = "result"\nargument = 6', 'name = "resolt"\nargument = 6')
    )
    assert "a scale of 'resolt': did you mean 'result'?" in error(path)


def test_a_symbolic_link_that_leads_out(path, tmp_path):
    """Where a link leads is what counts."""
    outside = tmp_path / "outside.xclbin"
    (path.parent / "4.xclbin").rename(outside)
    (path.parent / "4.xclbin").symlink_to(outside)
    assert "4.xclbin leads out of the manifest's folder" in error(path)


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"operation = \n", "not valid TOML: Invalid value (at line 1"), (b"\xff\xfe", "cannot be read")],
)
def test_no_toml(path, data, said):
    """What is no TOML, or no text, is a problem too."""
    path.write_bytes(data)
    assert said in error(path)


def test_the_path_is_no_key(path):
    """Where the manifest is follows from where it was found."""
    path.write_text('path = "elsewhere"\n' + path.read_text())
    assert f"{path}:1: unknown key 'path'" in error(path)


def test_one_broken_manifest_costs_only_itself(path):
    """The others are offered, in an order that depends on names alone."""
    broken = npus.write_manifest(path.parent / "a", "xrt-broken")
    npus.change(broken, "watchdog_s = 5.0", "watchdog_s = -1")
    npus.write_manifest(path.parent / "b", "xrt-single")
    offers = list(assay.manifests(path.parent))
    ids = [offer.id for offer in offers if isinstance(offer, assay.Implementation)]
    assert ids == ["flip.xrt-broken", "flip.xrt-single", "flip.xrt-batch"]
    assert len(offers) == 4


def test_two_of_one_name(path):
    """The second is refused, and both files are named."""
    other = npus.write_manifest(path.parent / "again")
    (problem,) = [o for o in assay.manifests(path.parent) if isinstance(o, Exception)]
    assert "flip.xrt-batch is described by" in str(problem)
    assert {str(path), str(other)} <= set(str(problem).replace(":", " ").split())


def test_a_folder_that_is_not_there(tmp_path):
    """A path that leads nowhere is said."""
    (problem,) = assay.manifests(tmp_path / "nowhere")
    assert "nowhere does not exist" in str(problem)


def test_other_names_of_manifests(path):
    """A folder may hold several, and a path may be one of them."""
    path.rename(path.with_name("flip.kernel.toml"))
    assert len(list(assay.manifests(path.parent))) == 1
    assert len(list(assay.manifests(path.with_name("flip.kernel.toml")))) == 1


def test_line_endings_do_not_matter(path):
    """The hash of a manifest is that of its bytes."""
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    (made,) = assay.manifests(path)
    assert made.capabilities.requires.artifacts[path] == npus.sha256(path)


class TestInARuntime:
    """Nothing about a manifest or its files is an exception out of ``Runtime()``."""

    @pytest.fixture
    def rig(self, tmp_path):
        """A machine with two manifests."""
        return npus.Rig(tmp_path)

    def reasons(self, rig, **config):
        """Why xrt-batch is not chosen."""
        with rig.runtime(**config) as rt:
            assert rt.run("flip", npus.rows(3)).shape == (3, npus.WIDTH)
            return rt.explain("flip")["xrt-batch"].reasons[-1]

    def test_broken(self, rig):
        """A broken manifest is a problem of the plugin, and rejected where it was configured by name."""
        npus.change(rig.batch, "argument = 6", "argument = 2")
        why = self.reasons(rig, proof={"mode": "always"})
        assert (why.code, f"{rig.batch}:" in why.message) == ("open_failed", True)
        with rig.runtime() as rt:
            (plugin,) = [p for p in rt.registry.plugins if p.problems]
        assert f"{rig.batch}:" in plugin.problems[0]

    def test_missing(self, rig):
        """A file that is not there."""
        (rig.batch.parent / "16.xclbin").unlink()
        assert self.reasons(rig).code == "artifact_missing"

    def test_changed(self, rig):
        """A file of another hash."""
        with (rig.batch.parent / "16.xclbin").open("ab") as file:
            file.write(b"!")
        assert self.reasons(rig).code == "artifact_changed"

    def test_truncated(self, rig):
        """A file that was cut short, which XRT would load without a word."""
        os.truncate(rig.batch.parent / "16.xclbin", 4000)
        why = self.reasons(rig)
        assert (why.code, "(4000 bytes)" in why.message) == ("artifact_changed", True)

    @pytest.mark.parametrize(("size", "said"), [(100, "holds no kernel"), (4000, "TIMEOUT")])
    def test_truncated_before_it_was_described(self, rig, size, said):
        """The hash is right and the file is not whole: XRT loads it, and the proof finds out."""
        file = rig.batch.parent / "16.xclbin"
        before = npus.sha256(file)
        os.truncate(file, size)
        npus.change(rig.batch, before, npus.sha256(file))
        assert said in self.reasons(rig, proof={"mode": "always"}).message
        assert rig.sim.crashes == []

    def test_a_pointer_of_git_lfs(self, rig):
        """It says so, and what to type."""
        pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
        (rig.batch.parent / "16.bin").write_text(pointer)
        why = self.reasons(rig)
        assert "Git LFS pointer" in why.message
        assert why.remedy == "git lfs pull"

    def test_another_generation_declared(self, rig):
        """A manifest for another generation is rejected before its files are touched."""
        npus.change(rig.batch, '["npu1"]', '["npu2"]')
        why = self.reasons(rig)
        assert (why.code, "built for npu2; NPU Phoenix is npu1" in why.message) == ("device_generation", True)

    def test_another_generation_undeclared(self, rig):
        """The driver's refusal of a context says little; the reason says what it may be."""
        npus.write_manifest(rig.batch.parent, generation="npu2")
        why = self.reasons(rig, proof={"mode": "always"})
        assert why.code == "device_busy"
        assert "built for another generation than NPU Phoenix" in why.message

    @pytest.mark.parametrize(
        ("data", "said"),
        [
            (b"\0" * 6, "has 6 bytes"),
            (b"\0" * 32, "says in its header that it has 0 bytes; it has 32"),
            (b"<html>not found</html>", "has 22 bytes"),
        ],
    )
    def test_instructions(self, rig, data, said):
        """Their length is in their header."""
        file = rig.batch.parent / "16.bin"
        before = npus.sha256(file)
        file.write_bytes(data)
        rig.batch.write_text(rig.batch.read_text().replace(before, npus.sha256(file)))
        (rig.batch.parent / "4.bin").write_bytes(data)
        why = self.reasons(rig, proof={"mode": "always"})
        assert (why.code, said in why.message) == ("open_failed", True)

    def test_the_wrong_unit_of_length(self, rig):
        """The device waits for instructions that never come, and its watchdog ends the run."""
        npus.change(rig.batch, '"bytes"', '"words"')
        why = self.reasons(rig, proof={"mode": "always"})
        assert "TIMEOUT" in why.message
        assert rig.sim.crashes == []

    def test_a_kernel_of_fewer_arguments(self, rig):
        """XRT crashes where a buffer is set beyond the last argument; here it is a reason."""
        npus.write_manifest(rig.batch.parent, args=6)
        why = self.reasons(rig, proof={"mode": "always"})
        assert "sets argument 6; the kernel MLIR_AIE in 16.xclbin declares 6 (0 to 5)" in why.message
        assert rig.sim.crashes == []

    def test_a_kernel_of_another_name(self, rig):
        """The names that are there are shown."""
        npus.write_manifest(rig.batch.parent)
        npus.change(rig.batch, 'length_unit = "bytes"', 'length_unit = "bytes"\nkernel = "FLIP"')
        why = self.reasons(rig, proof={"mode": "always"})
        assert "holds no kernel 'FLIP'; it holds: MLIR_AIE" in why.message

    def test_every_flag_refused(self, rig):
        """Each refusal is in the reason, in XRT's words."""
        npus.change(rig.batch, '["normal", "host_only"]', '["normal", "svm"]')
        why = self.reasons(rig)
        assert why.code == "buffer_refused"
        assert "normal: unsupported buffer type" in why.message
        assert "svm: Bad BO flags" in why.message

    def test_cacheable_data(self, rig):
        """It allocates and the device ignores it: the proof finds out, and the message says why."""
        npus.change(rig.batch, '["normal", "host_only"]', '["cacheable"]')
        why = self.reasons(rig, proof={"mode": "always"})
        assert "never written, or not whole; cacheable data is known to be ignored" in why.message

    @pytest.mark.parametrize(
        ("old", "new", "said"),
        [
            ("item_shape = [32]", "item_shape = [16]", "items of 'x' have shape (32,)"),
            ('factor = "factor"', 'factor = "scale"', "factor = 'scale' of 'x' is none of factor"),
        ],
    )
    def test_what_does_not_fit_the_operation(self, rig, old, new, said):
        """What only the operation knows is found in the proof."""
        rig.batch.write_text(rig.batch.read_text().replace(old, new, 1))
        assert said in self.reasons(rig, proof={"mode": "always"}).message

    def test_another_number_of_inputs(self, rig):
        """The operation's items and the manifest's inputs are counted."""
        text = rig.batch.read_text()
        at = text.index('[[buffers]]\nrole = "scale"\nname = "x"')
        extra = (
            '[[buffers]]\nrole = "input"\nname = "y"\nargument = 7\ndtype = "float32"\nitem_shape = [32]\n\n'
        )
        rig.batch.write_text(text[:at] + extra + text[at:])
        why = self.reasons(rig, proof={"mode": "always"})
        assert "the operation's items have 1 inputs, the manifest 2: x, y" in why.message


def test_a_change_of_the_manifest_is_proved_anew(tmp_path):
    """A certificate holds for the very text that was proved."""
    from assay.contract.candidate import Candidate, Distribution
    from assay.negotiation.fingerprint import fingerprint
    from assay.negotiation.installed import Installed

    rig = npus.Rig(tmp_path)
    keys = []
    with rig.device() as device:
        for text in (rig.batch.read_text(), rig.batch.read_text().replace("1e-3", "2e-3")):
            rig.batch.write_text(text)
            (made,) = assay.manifests(rig.batch)
            candidate = Candidate(made, Distribution("assay", "0"), plan=npus.plan(device, 16))
            keys.append(fingerprint(npus.FLIP, "npus", candidate, Installed()))
    differ = {name for name in keys[0] if keys[0][name] != keys[1][name]}
    assert differ == {"artifact kernel.toml"}


@pytest.mark.skipif(not DOCS.is_file(), reason="the documentation is not beside this installation")
def test_the_documented_manifest_is_right_and_complete(tmp_path):
    """The manifest in docs/npu.md reads, and every key is explained there."""
    text = DOCS.read_text()
    block = text.partition("```toml\n# kernel.toml")[2].partition("```")[0]
    (tmp_path / "kernel.toml").write_text(block)
    made = read(block, tmp_path / "kernel.toml")
    assert (made.operation, made.name) == ("mel", "xrt-batch")
    models = (Manifest, type(made.designs[0]), type(made.buffers[0]), type(made.inputs[0].quantisation))
    keys = {name for model in models for name in model.model_fields} - {"path"}
    assert {key for key in keys if f"`{key}`" not in text} == set()


def test_the_helper_is_public():
    """A package that ships designs yields from it; an error that it yields is a problem of that plugin."""

    class Shipped:
        @assay.hookimpl
        def assay_implementations(self):
            yield from assay.manifests("/nowhere/at/all")

    settings = {"plugins": {"autoload": False}}
    with simxrt.Simulator("none").installed(), assay.Runtime(settings, plugins=[Shipped()]) as rt:
        (plugin,) = [p for p in rt.registry.plugins if p.problems]
    assert (plugin.name, "/nowhere/at/all does not exist" in plugin.problems[0]) == ("Shipped", True)
