"""The module that stands for pyxrt: names, enumerations, installation."""

import importlib.util
import sys
from types import ModuleType
from typing import Any

import pytest
from assay.testing.simxrt import Simulator


@pytest.mark.parametrize(
    "name",
    [
        "device",
        "xclbin",
        "uuid",
        "hw_context",
        "kernel",
        "run",
        "bo",
        "ert_cmd_state",
        "xclBOSyncDirection",
    ],
)
def test_names(sim: Simulator, name: str) -> None:
    """The names that a driver uses are there, and say that they belong to pyxrt."""
    assert getattr(sim.module, name).__name__ == name


def test_installed(sim: Simulator) -> None:
    """Within installed() the import system finds the stand-in, and afterwards it does not."""
    with sim.installed():
        import pyxrt

        assert pyxrt is sim.module
        assert importlib.util.find_spec("pyxrt") is not None
    assert "pyxrt" not in sys.modules


def test_installed_restores(sim: Simulator) -> None:
    """installed() puts back the module that was there before."""
    real = ModuleType("pyxrt")
    sys.modules["pyxrt"] = real
    try:
        with sim.installed():
            pass
        assert sys.modules["pyxrt"] is real
    finally:
        del sys.modules["pyxrt"]


def test_states(sim: Simulator) -> None:
    """States have the numbers of ERT, and 3 is not bound."""
    numbers = {s.name.removeprefix("ERT_CMD_STATE_"): int(s) for s in sim.module.ert_cmd_state}
    assert numbers == {
        "NEW": 1,
        "QUEUED": 2,
        "COMPLETED": 4,
        "ERROR": 5,
        "ABORT": 6,
        "SUBMITTED": 7,
        "TIMEOUT": 8,
        "NORESPONSE": 9,
        "SKERROR": 10,
        "SKCRASHED": 11,
    }


def test_states_are_not_ordered(sim: Simulator) -> None:
    """A state equals no integer and can't be compared with >=."""
    completed = sim.module.ert_cmd_state.ERT_CMD_STATE_COMPLETED
    assert completed != 4
    with pytest.raises(TypeError):
        _ = completed >= sim.module.ert_cmd_state.ERT_CMD_STATE_NEW


def test_flags(sim: Simulator) -> None:
    """Buffer flags have XRT's bits and are found on the class too."""
    bo = sim.module.bo
    bits = {f.name: int(f) for f in bo.flags}
    assert bits == {
        "normal": 0,
        "cacheable": 1 << 24,
        "svm": 1 << 27,
        "device_only": 1 << 28,
        "host_only": 1 << 29,
        "p2p": 1 << 30,
    }
    assert bo.host_only is bo.flags.host_only


def test_directions_are_not_exported(sim: Simulator) -> None:
    """The sync directions live in their enumeration only."""
    assert not hasattr(sim.module, "XCL_BO_SYNC_BO_TO_DEVICE")


def test_handles_take_no_attributes(rig: Any) -> None:
    """A handle is closed to new attributes, as pybind11's are."""
    with pytest.raises(AttributeError):
        rig.run.note = 1


def test_unknown_choices() -> None:
    """A profile, release or clock that does not exist is refused with those that do."""
    with pytest.raises(ValueError, match="unknown profile 'pheonix': there are phoenix"):
        Simulator("pheonix")
    with pytest.raises(ValueError, match=r"unknown XRT release '2\.13': there are 2\.20, 2\.25"):
        Simulator(xrt="2.13")
    with pytest.raises(ValueError, match="unknown clock 'slow': there are virtual, spin"):
        Simulator(clock="slow")  # type: ignore[arg-type]
