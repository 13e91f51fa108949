"""A ``pyxrt.py`` for processes that a test starts: the proof's worker, the command line, a server."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .faults import Fault
from .profiles import DeviceProfile, Timing
from .simulator import Simulator

_SOURCE = '''"""Stand-in for pyxrt, written by assay.testing.simxrt. How it behaves is in pyxrt.json."""

from assay.testing.simxrt.drop_in import become

become(__name__, __file__)
'''


def write_drop_in(
    folder: str | Path,
    profile: str | DeviceProfile = "phoenix",
    *,
    faults: Sequence[Fault] = (),
    programs: Mapping[str, str] | None = None,
    timing: Timing | None = None,
    **options: Any,
) -> Path:
    """Write ``pyxrt.py`` and ``pyxrt.json`` into ``folder``, for ``PYTHONPATH``, as XRT's own folder is.

    Args:
        folder: where; made if it is missing. Write again to change the faults: the next process obeys.
        profile: as for ``Simulator``.
        faults: armed from the start, in each process anew.
        programs: what xclbin files name, as ``"package.module:function"``.
        timing: as for ``Simulator``.
        **options: ``xrt``, ``clock``, ``seed``, ``memory``, ``leak``, ``fatal`` of ``Simulator``.
            ``fatal`` is ``"real"`` unless given: a process of its own may die.

    Returns:
        The folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "profile": profile if isinstance(profile, str) else asdict(profile),
        "timing": None if timing is None else asdict(timing),
        "faults": [asdict(f) for f in faults],
        "programs": dict(programs or {}),
        "options": {"fatal": "real", **options},
    }
    (folder / "pyxrt.json").write_text(json.dumps(settings, indent=2))
    (folder / "pyxrt.py").write_text(_SOURCE)
    return folder


def become(name: str, file: str) -> Simulator:
    """Fill the module ``name`` with a simulator's; called by the file that ``write_drop_in`` wrote."""
    settings = json.loads(Path(file).with_suffix(".json").read_text())
    profile, timing = settings["profile"], settings["timing"]
    sim = Simulator(
        profile if isinstance(profile, str) else DeviceProfile(**profile),
        timing=None if timing is None else Timing(**timing),
        **settings["options"],
    )
    for program, target in settings["programs"].items():
        sim.register(program, sim.program(target))
    for fault in settings["faults"]:
        sim.inject(Fault(**fault))
    module = sys.modules[name]
    vars(module).update({k: v for k, v in vars(sim.module).items() if not k.startswith("__")})
    vars(module)["__simulator__"] = sim
    return sim
