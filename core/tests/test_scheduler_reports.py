"""What is reported, and that docs/serving.md and docs/faults.md say what is: examples, settings, fields."""

import asyncio
import re
import tomllib
from pathlib import Path

import assay
import numpy as np
import pytest
from assay.config import Config
from toys import ItemKernel, Kernel, expect, offer, raising, row, runtime

DOCS = Path(__file__).parents[2] / "docs"
SERVING, FAULTS = (DOCS / "serving.md").read_text(), (DOCS / "faults.md").read_text()


def blocks(page, language):
    """The code blocks of a page."""
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def toy(example):
    """An example about the toy operation, since this distribution defines no other."""
    return example.replace('"mel"', '"scale"')


@pytest.fixture
def rt():
    items = offer("items", ItemKernel(), 60, form="items", writes_out=True)
    with runtime(items, offer("plain", Kernel()), ops={"scale": {"batch_size": 4}}) as rt:
        yield rt


@pytest.mark.parametrize("block", blocks(FAULTS + SERVING, "toml"))
def test_every_example_of_a_configuration_is_one(block):
    """Each setting exists and each value is allowed."""
    assert Config.model_validate(tomllib.loads(block)).model_fields_set


def test_every_setting_that_is_named_exists():
    """What the pages call a setting, such as `cooldown_s`, is a key of the configuration."""
    known = {name for section in ("fallback", "proof", "queue") for name in _keys(section)} | {*_keys()}
    named = set(re.findall(r"`(\w+) = ", FAULTS + SERVING))
    named |= set(re.findall(r"`(\w+_s|\w+_rate|\w+_limit|\w+_threads)`", FAULTS + SERVING))
    assert named
    assert named <= known


def _keys(section=None):
    model = Config if section is None else Config.model_fields[section].annotation
    return model.model_fields


def test_the_examples_of_serving_run(rt, monkeypatch):
    """In their order, in one program."""
    monkeypatch.setattr(assay, "Runtime", lambda path: rt)
    scope = {"recording": row(), "recordings": [row(1), row(2)]}
    for example in blocks(SERVING, "python"):
        exec(toy(example), scope)
        if "recordings" in example:
            assert np.array_equal(scope["features"], expect(row(2)))
            assert np.array_equal(scope["future"].result(), expect(row()))
        elif "wrap_future" in example:
            assert np.array_equal(asyncio.run(scope["features"](rt, row(1, 2))), [2, 4])
        else:
            assert np.array_equal(scope["mel"](row()), expect(row()))


def test_the_fields_of_metrics_are_those_of_the_page(rt):
    """No field is missing from the table, and the table has no other."""
    table = SERVING[SERVING.index("| field |") :]
    named = {
        name
        for line in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        for name in re.findall(r"\w+", line)
    }
    op = rt.metrics()["ops"]["scale"]
    assert (
        named | {"work_unit", "implementations", "state"}
        == op.keys() | op["implementations"]["scale.plain"].keys()
    )
    assert op["queue"].keys() == {"waiting", "refused", "seconds"}


def test_the_kinds_of_failures_are_those_of_the_page():
    """The page lists what the counters may count."""
    source = Path(assay.scheduler.blame.__file__).read_text()
    kinds = {*re.findall(r'return "(\w+)", ', source), *re.findall(r'kind, what, guilty = "(\w+)"', source)}
    (listed,) = re.findall(r"by kind: ([\w, ]+)", SERVING)
    assert {*listed.strip().split(", ")} == kinds | {"mismatch"}


def test_the_summary_says_what_the_metrics_count(rt):
    """Failures, falls, quarantines, the size of batches, the time in the queue."""
    items, plain = (rt._dispatchers["scale"].roster.servers[n].ready().call for n in (0, 1))
    rt.run("scale", np.ones(8, "f"))
    rt.submit("scale", row(1, 2)).result(10)
    items.act = raising(RuntimeError())
    for _ in range(3):
        rt.run("scale", row())
    text = rt.summary()
    assert plain.calls == 3
    first, second = (
        next(line for line in text.splitlines() if f"scale.{name}" in line) for name in ("items", "plain")
    )
    assert "2 calls" in first
    assert "3.3 items a batch" in first
    assert re.search(r"[\d.e-]+ s in the queue", first)
    assert "3 raised, 1 quarantines, in quarantine" in first
    assert "3 calls" in second
    assert "3 fallbacks" in second
