"""Another plugin of the same distribution: it outranks the right ones, and is wrong."""

import assay
import numpy as np


def zeros(x, *, times):
    return np.zeros_like(x)


@assay.hookimpl
def assay_implementations():
    yield assay.Implementation(op="double", name="zeros", priority=50, kernel="assay_toy_wrong:zeros")
