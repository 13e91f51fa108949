"""A program that chooses one implementation loads no other's library."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"torch", "onnxruntime", "onnx", "scipy", "ml_dtypes"}

PROGRAM = """
import sys
import numpy as np
import assay
config = {{"ops": {{"attention": {{"require": "{name}"}}}}, "proof": {{"mode": "off"}}}}
with assay.Runtime(config, ops=["attention"]) as runtime:
    runtime.op("attention")(*np.ones((3, 2, 5, 8), np.float32))
print(*sorted({heavy} & set(sys.modules)))
"""


@pytest.mark.parametrize(
    ("name", "loaded"),
    [("reference", set()), ("numpy", set()), ("onnxruntime", {"onnxruntime", "onnx"})],
)
def test_fresh_process_loads_only_what_it_needs(name, loaded):
    """In a new interpreter, after a call."""
    program = PROGRAM.format(name=name, heavy=HEAVY)
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )

    assert loaded == set(ended.stdout.split()) - {"ml_dtypes"}  # onnx brings ml_dtypes along
