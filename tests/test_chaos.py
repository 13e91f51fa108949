"""The chaos run of ``soak.py``, as continuous integration runs it."""

import subprocess
import sys
from pathlib import Path


def test_nothing_is_lost_in_chaos():
    """16 threads, 200,000 calls, two of three implementations failing: each call answered, rightly, once."""
    soak = Path(__file__).with_name("soak.py")
    done = subprocess.run(
        [sys.executable, str(soak), "--calls", "200000"], capture_output=True, text=True, check=False
    )
    print(done.stdout)  # with the seed
    assert done.returncode == 0, done.stdout + done.stderr
