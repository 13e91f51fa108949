"""An installed plugin for the tests: a right kernel of another distribution, the last to be proved."""

import assay
import numpy as np


def right(x, *, times):
    return x * np.float32(times)


@assay.hookimpl
def assay_implementations():
    yield assay.Implementation(op="triple", name="zz-innocent", kernel="assay_innocent:right")
