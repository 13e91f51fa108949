"""A kernel that reads address zero, as a defect in compiled code does."""

import ctypes
from collections.abc import Iterator
from typing import Any

import assay


def mel(audio: Any, **params: Any) -> Any:
    """No result: the process is gone."""
    return ctypes.string_at(0)


@assay.hookimpl
def assay_implementations() -> Iterator[assay.Implementation]:
    """The killer."""
    yield assay.Implementation(
        op="mel", name="segfault", priority=98, kernel="assay_sample_segfault.plugin:mel"
    )
