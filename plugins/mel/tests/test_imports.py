"""A program that chooses one implementation loads no other's library."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"librosa", "asrfront", "scipy", "soundfile", "soxr", "matplotlib", "torch"}

PROGRAM = """
import sys
import numpy as np
import assay
config = {{"ops": {{"mel": {{"require": "{name}"}}}}, "proof": {{"mode": "off"}}}}
with assay.Runtime(config, ops=["mel"]) as runtime:
    runtime.op("mel")(np.ones(800, np.float32))
print(*sorted({heavy} & set(sys.modules)))
"""


@pytest.mark.parametrize("name", ["reference", "numpy", "frames", "frame", "asrfront"])
def test_fresh_process_loads_only_what_it_needs(name):
    """In a new interpreter, after a call."""
    program = PROGRAM.format(name=name, heavy=HEAVY)
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )

    assert set(ended.stdout.split()) == ({name} & HEAVY)
