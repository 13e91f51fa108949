"""A stand-in for pyxrt, so that device kernels can be developed and tested without an NPU.

    sim = simxrt.Simulator("phoenix", xrt="2.25")
    sim.register("double", lambda x, y: np.copyto(y, 2 * x))
    image = simxrt.KernelImage("double")
    sim.write_xclbin("double.xclbin", [image])
    sim.write_instructions("double.bin", "double")
    with sim.installed():
        import pyxrt
        ...

Names, types, messages and quirks are those of pyxrt 2.20 or 2.25 on an NPU, as far as they are known; none
of it has been compared with hardware. A kernel is a host function over device memory
(``Simulator.register``); faults come on demand (``Simulator.inject``); time is virtual or spun (``clock``);
handles are counted (``live``); what would end the process or stop it for ever raises ``SimulatedCrash`` or
``SimulatedHang``. For other processes ``write_drop_in`` writes a ``pyxrt.py``.

Not modelled, and their names absent: ``runlist``, the log, and the ELF flow (``elf``, ``module``,
``program``, ``ext``).
"""

from .clock import Clock, SpinClock, VirtualClock
from .drop_in import write_drop_in
from .errors import SimulatedCrash, SimulatedHang
from .faults import Fault, Injection, Kind, Step, every_fault
from .images import KernelImage, instructions, write_instructions, write_xclbin
from .lease import Live
from .profiles import FREE, PROFILES, DeviceProfile, Timing
from .simulator import VERSIONS, Simulator

__all__ = [
    "FREE",
    "PROFILES",
    "VERSIONS",
    "Clock",
    "DeviceProfile",
    "Fault",
    "Injection",
    "KernelImage",
    "Kind",
    "Live",
    "SimulatedCrash",
    "SimulatedHang",
    "Simulator",
    "SpinClock",
    "Step",
    "Timing",
    "VirtualClock",
    "every_fault",
    "instructions",
    "write_drop_in",
    "write_instructions",
    "write_xclbin",
]
