"""What this package offers."""

from collections.abc import Iterator

import assay


@assay.hookimpl
def assay_implementations() -> Iterator[assay.Implementation]:
    """One item kernel, for any number of frames at a time."""
    yield assay.Implementation(
        op="mel",
        name="good",
        priority=10,
        kernel="assay_sample_good.frames:mel",
        capabilities=assay.Capabilities(form="items", writes_out=True),
        description="a sample: numpy.fft, in double precision",
    )
