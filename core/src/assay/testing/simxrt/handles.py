"""``pyxrt.uuid``, ``xclbin``, ``device``, ``hw_context`` and ``kernel``."""

from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from . import enums
from .bound import NEW_API, UNSIGNED, Bound, int32, integer, out_of_range, refuse
from .engine import Program
from .faults import Step
from .images import SCALARS, KernelImage, XclbinImage, read_xclbin

if TYPE_CHECKING:
    from .lease import Lease
    from .run import Run

HOST_BANK = 0
SRAM_BANK = 1
NO_BANK = 0xFFFF
"""The bank of an argument that is no buffer."""

_INSTRUCTIONS = 1  # the argument that holds them


class Uuid(Bound):
    """``pyxrt.uuid``: any string is accepted, and two of the same value are not equal."""

    __slots__ = ("_text",)

    def __init__(self, text: str, /) -> None:
        if not isinstance(text, str):
            refuse("__init__", (text,), "pyxrt.uuid(arg0: str)")
        self._text = text

    def to_string(self, /) -> str:
        """Return the uuid as text; nonsense reads as zeros."""
        valid = len(self._text) == 36 and self._text.count("-") == 4
        return self._text if valid else "00000000-0000-0000-0000-000000000000"


class XclbinKernel(Bound):
    """``pyxrt.xclbin.xclbinkernel``."""

    __slots__ = ("_image",)

    def __init__(self, image: KernelImage | None = None, /) -> None:
        self._image = image

    def get_name(self, /) -> str:
        """Return the kernel's name."""
        return self._sim.made(self._image, "xclbinkernel()").name

    def get_num_args(self, /) -> int:
        """Return the number of arguments, the first three included."""
        return self._sim.made(self._image, "xclbinkernel()").args


class XclbinMem(Bound):
    """``pyxrt.xclbin.xclbinmem``."""

    __slots__ = ("_index", "_tag")

    def __init__(self, tag: str = "", index: int = -1, /) -> None:
        self._tag, self._index = tag, index

    def get_tag(self, /) -> str:
        """Return the bank's name."""
        return self._tag

    def get_index(self, /) -> int:
        """Return the bank's number, the low half of a group id."""
        return self._index

    def get_used(self, /) -> bool:
        """Return whether a kernel uses the bank."""
        return True

    def get_base_address(self, /) -> int:
        """Return where the bank starts."""
        return 0x4000_0000

    def get_size_kb(self, /) -> int:
        """Return the bank's size in KiB."""
        return 65536


class Xclbin(Bound):
    """``pyxrt.xclbin``: takes a ``str``; a file cut short loads without a word."""

    __slots__ = ("_image",)
    xclbinkernel: ClassVar[type] = XclbinKernel
    xclbinmem: ClassVar[type] = XclbinMem

    def __init__(self, *args: str) -> None:
        self._image: XclbinImage | None = None
        if args:
            if len(args) != 1 or not isinstance(args[0], str):
                refuse("__init__", args, "pyxrt.xclbin()", "pyxrt.xclbin(arg0: str)")
            self._image = read_xclbin(args[0])

    def contents(self) -> XclbinImage:
        """Return what the file holds. Not in pyxrt."""
        return self._sim.made(self._image, "xclbin()")

    def get_kernels(self, /) -> list[XclbinKernel]:
        """Return the kernels in the file."""
        make = self._sim.classes["xclbinkernel"]
        return [make(k) for k in self.contents().kernels]

    def get_mems(self, /) -> list[XclbinMem]:
        """Return the memory banks: HOST and SRAM."""
        make = self._sim.classes["xclbinmem"]
        self.contents()
        return [make("HOST", HOST_BANK), make("SRAM", SRAM_BANK)]

    def get_uuid(self, /) -> Uuid:
        """Return the file's uuid, a new object each time."""
        uuid: Uuid = self._sim.classes["uuid"](self.contents().uuid)
        return uuid

    def get_xsa_name(self, /) -> str:
        """Return the name of the platform that the file was built for."""
        return self.contents().xsa_name


class Device(Bound):
    """``pyxrt.device``: each construction opens the device."""

    __slots__ = ("_lease",)

    def __init__(self, *args: int | str) -> None:
        self._lease: Lease | None = None
        if not args:
            return
        index = 0 if isinstance(args[0], str) else integer(args[0], 0, UNSIGNED)
        if index is None or len(args) != 1:
            refuse("__init__", args, "pyxrt.device()", "pyxrt.device(arg0: int)", "pyxrt.device(arg0: str)")
        self._lease = self._sim.open_device(index)

    def opened(self) -> None:
        """Crash if this handle was made empty. Not in pyxrt."""
        self._sim.made(self._lease, "device()")

    def register_xclbin(self, xclbin: Xclbin, /) -> Uuid:
        """Make the file's kernels known and return its uuid."""
        if not isinstance(xclbin, Xclbin):
            signature = "(self: pyxrt.device, arg0: pyxrt.xclbin) -> pyxrt.uuid"
            refuse("register_xclbin", (self, xclbin), signature)
        self.opened()
        self._sim.check(Step.REGISTER)
        image = xclbin.contents()
        self._sim.registered[image.uuid] = image
        return xclbin.get_uuid()

    def load_xclbin(self, xclbin: object, /) -> NoReturn:
        """Refuse: NPUs take ``register_xclbin`` and ``hw_context``."""
        raise RuntimeError("load_axlf: Operation not supported")

    def get_info(self, key: enums.xrt_info_device, /) -> str:
        """Return one property as text."""
        if not isinstance(key, enums.xrt_info_device):
            refuse("get_info", (self, key), "(self: pyxrt.device, arg0: pyxrt.xrt_info_device) -> str")
        self.opened()
        known = {"name": self._sim.profile.name, "bdf": "0000:c5:00.1"}
        return known.get(key._name_, "NA")


class HwContext(Bound):
    """``pyxrt.hw_context``: one of the few that the device has."""

    __slots__ = ("_device", "_image", "_lease", "_slot")
    access_mode: ClassVar[type] = enums.access_mode
    exclusive: ClassVar[enums.access_mode] = enums.access_mode.exclusive
    shared: ClassVar[enums.access_mode] = enums.access_mode.shared

    def __init__(self, *args: Any) -> None:
        self._image: XclbinImage | None = None
        if not args:
            return
        sim = self._sim
        new = sim.version >= NEW_API
        if not isinstance(args[0], Device) or not 2 <= len(args) <= (3 if new else 2):
            self._no_overload(args)
        device, program, *mode = args
        device.opened()
        if mode and not isinstance(mode[0], enums.access_mode | dict):
            self._no_overload(args)
        if new and isinstance(program, str):
            program = sim.classes["xclbin"](program)
        if new and isinstance(program, Xclbin):
            program = device.register_xclbin(program)
        if not isinstance(program, Uuid):
            self._no_overload(args)
        self._device: Device = device
        self._image, self._slot, self._lease = sim.open_context(program.to_string())

    def _no_overload(self, args: tuple[object, ...]) -> NoReturn:
        forms = ["pyxrt.hw_context()", "pyxrt.hw_context(arg0: pyxrt.device, arg1: pyxrt.uuid)"]
        if self._sim.version >= NEW_API:
            forms += [
                "pyxrt.hw_context(device: pyxrt.device, xclbin: pyxrt.xclbin)",
                "pyxrt.hw_context(device: pyxrt.device, xclbin_path: str)",
            ]
        refuse("__init__", args, *forms)


class Kernel(Bound):
    """``pyxrt.kernel``."""

    __slots__ = ("_context", "_lease", "image", "program", "truncated")
    cu_access_mode: ClassVar[type] = enums.cu_access_mode
    exclusive: ClassVar[enums.cu_access_mode] = enums.cu_access_mode.exclusive
    shared: ClassVar[enums.cu_access_mode] = enums.cu_access_mode.shared
    none: ClassVar[enums.cu_access_mode] = enums.cu_access_mode.none

    def __init__(self, *args: Any) -> None:
        sim = self._sim
        if len(args) != 2 or not isinstance(args[0], HwContext) or not isinstance(args[1], str):
            refuse("__init__", args, "pyxrt.kernel(arg0: pyxrt.hw_context, arg1: str)")
        context, name = args
        xclbin = sim.made(context._image, "hw_context()")
        sim.check(Step.KERNEL)
        wanted = name.partition(":")[0]
        found = next((k for k in xclbin.kernels if k.name == wanted), None)
        if found is None:
            raise RuntimeError(f"No such kernel '{name}': Invalid argument")
        self.image: KernelImage = found
        self.truncated: bool = xclbin.truncated
        self.program: Program = sim.program(found.program)
        self._context: HwContext = context
        self._lease = sim.lease("kernels")

    def group_id(self, index: int, /) -> int:
        """Return ``slot << 16 | bank`` of an argument; the bank of a scalar is 0xFFFF."""
        argument = int32(index)
        if argument is None:
            refuse("group_id", (self, index), "(self: pyxrt.kernel, arg0: int) -> int")
        if not 0 <= argument < self.image.args:
            out_of_range(argument, self.image.args)
        return self._context._slot << 16 | self.bank(argument)

    def bank(self, index: int) -> int:
        """Return the memory bank that an argument is connected to. Not in pyxrt."""
        if index == _INSTRUCTIONS:
            return SRAM_BANK
        return NO_BANK if index < SCALARS else HOST_BANK

    def __call__(self, *args: Any) -> "Run":
        """Set the arguments, **passing in silence over each that can't be set**, start, return the run."""
        run: Run = self._sim.classes["run"](self)
        for index, value in enumerate(args):
            with suppress(Exception):  # as pyxrt does; a SimulatedCrash is no Exception and gets out
                run.set_arg(index, value)
        run.start()
        return run
