"""Device buffers: a few root allocations, cut into regions that lie 64 bytes apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from assay.contract.capabilities import BufferFlag
from assay.contract.operation import Array
from assay.devices.xrt.errors import raised
from assay.devices.xrt.session import Session

ALIGNMENT = 64
"""Bytes between regions of one allocation: a line of the host's cache, which a sync works in."""

SCALAR_BANK = 0xFFFF


class Region:
    """One argument's part of an allocation: the buffer that XRT gets, and the host's bytes."""

    def __init__(self, session: Session, root: Any, size: int, offset: int) -> None:
        # Parts are always of the root: the offsets of a part of a part disagree between host and device.
        self.bo = session.pyxrt.bo(root, size, offset)
        self.view = np.frombuffer(self.bo.map(), np.uint8, size)  # the map alone does not keep the buffer
        self.view[:] = 0
        self._from_device = session.pyxrt.xclBOSyncDirection.XCL_BO_SYNC_BO_FROM_DEVICE

    def from_device(self) -> None:
        """Make the device's bytes the host's."""
        self.bo.sync(self._from_device)

    def array(self, dtype: np.dtype[Any], shape: tuple[int, ...], start: int = 0) -> Array:
        """The host's bytes from ``start`` on as an array."""
        stop = start + int(np.prod(shape)) * dtype.itemsize
        return self.view[start:stop].view(dtype).reshape(shape)


class Buffers:
    """One root allocation for each memory bank, cut into regions.

    Args:
        wanted: (what it is, bytes, group id) of each region.

    Raises:
        MemoryError, RuntimeError: XRT refuses the allocation.
        ValueError: An argument is a scalar and takes no buffer.
    """

    def __init__(self, session: Session, flag: BufferFlag, wanted: Sequence[tuple[str, int, int]]) -> None:
        ends: dict[int, int] = {}
        offsets = []
        for what, size, group in wanted:
            # Another bank than the argument's own would silently become a private copy, and none is an error.
            if group & SCALAR_BANK == SCALAR_BANK:
                raise ValueError(f"{what} is a scalar in this kernel and takes no buffer")
            offsets.append(ends.get(group, 0))
            ends[group] = offsets[-1] + -(-size // ALIGNMENT) * ALIGNMENT
        pyxrt = session.pyxrt
        self._to_device = pyxrt.xclBOSyncDirection.XCL_BO_SYNC_BO_TO_DEVICE
        try:
            self.roots = {
                group: pyxrt.bo(session.device, size, session.flag(flag), group)
                for group, size in ends.items()
            }
            self.regions = [
                Region(session, self.roots[group], size, offset)
                for (_, size, group), offset in zip(wanted, offsets, strict=True)
            ]
        except RuntimeError as error:
            raise raised(error, f"allocating {', '.join(what for what, _, _ in wanted)}") from error

    def to_device(self) -> None:
        """Make the host's bytes the device's, of every region."""
        for root in self.roots.values():
            root.sync(self._to_device)

    def close(self) -> None:
        """Free them, parts first; views of them are no longer valid."""
        self.regions.clear()
        self.roots.clear()
