"""What the classes of the stand-in share: the simulator that they belong to, and pybind11's manners."""

import operator
from typing import TYPE_CHECKING, ClassVar, NoReturn

if TYPE_CHECKING:
    from .simulator import Simulator

UNSIGNED = 1 << 32
SIZE = 1 << 64
NEW_API = (2, 23)
"""From this release on, unfinished runs abort the process and ``hw_context`` takes more forms."""


class Bound:
    """A class of one simulator's module. Like pybind11's it takes no new attributes or weak references."""

    __slots__ = ()
    _sim: ClassVar["Simulator"]


def refuse(call: str, args: tuple[object, ...], *signatures: str) -> NoReturn:
    """Raise pybind11's TypeError for arguments that fit no overload."""
    what = "constructor" if call == "__init__" else "function"
    overloads = "".join(f"\n    {i}. {s}" for i, s in enumerate(signatures, 1))
    raise TypeError(
        f"{call}(): incompatible {what} arguments. The following argument types are supported:{overloads}"
        f"\n\nInvoked with: {', '.join(map(repr, args))}"
    )


def integer(value: object, lo: int, hi: int) -> int | None:
    """Return ``value`` as pybind11 converts it to a C integer in [lo, hi); None where that is a TypeError."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None
    return number if lo <= number < hi else None


def int32(value: object) -> int | None:
    """Return ``value`` as a C int, or None."""
    return integer(value, -(1 << 31), 1 << 31)


def out_of_range(index: int, size: int) -> NoReturn:
    """Raise what pybind11 makes of ``std::vector::at``."""
    raise IndexError(f"vector::_M_range_check: __n (which is {index}) >= this->size() (which is {size})")
