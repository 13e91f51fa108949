"""pyxrt's enumerations, in pybind11's manner: they convert to int, but equal none and have no order."""

import enum


class _Pybind11Enum(enum.Enum):
    def __int__(self) -> int:
        return int(self.value)

    def __index__(self) -> int:
        return int(self.value)


class ert_cmd_state(_Pybind11Enum):
    """How a run is doing. 3 (running) is not bound."""

    ERT_CMD_STATE_NEW = 1
    ERT_CMD_STATE_QUEUED = 2
    ERT_CMD_STATE_COMPLETED = 4
    ERT_CMD_STATE_ERROR = 5
    ERT_CMD_STATE_ABORT = 6
    ERT_CMD_STATE_SUBMITTED = 7
    ERT_CMD_STATE_TIMEOUT = 8
    ERT_CMD_STATE_NORESPONSE = 9
    ERT_CMD_STATE_SKERROR = 10
    ERT_CMD_STATE_SKCRASHED = 11


class xclBOSyncDirection(_Pybind11Enum):
    """Which way ``bo.sync`` copies."""

    XCL_BO_SYNC_BO_TO_DEVICE = 0
    XCL_BO_SYNC_BO_FROM_DEVICE = 1
    XCL_BO_SYNC_BO_GMIO_TO_AIE = 2
    XCL_BO_SYNC_BO_AIE_TO_GMIO = 3


class flags(_Pybind11Enum):
    """Kinds of buffers."""

    normal = 0
    cacheable = 1 << 24
    svm = 1 << 27
    device_only = 1 << 28
    host_only = 1 << 29
    p2p = 1 << 30


class access_mode(_Pybind11Enum):
    """How a hardware context shares its columns."""

    exclusive = 0
    shared = 1


class cu_access_mode(_Pybind11Enum):
    """How a kernel shares its compute unit."""

    exclusive = 0
    shared = 1
    none = 2


class xrt_info_device(_Pybind11Enum):
    """What ``device.get_info`` can be asked."""

    bdf = 0
    interface_uuid = 1
    kdma = 2
    max_clock_frequency_mhz = 3
    m2m = 4
    name = 5  # type: ignore[assignment]  # pyxrt's member hides Enum.name there too
    nodma = 6
    offline = 7
    electrical = 8
    thermal = 9
    mechanical = 10
    memory = 11
    platform = 12
    pcie_info = 13
    host = 14
    dynamic_regions = 16
    vmr = 17
