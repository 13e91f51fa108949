"""What stands for the death of the process."""


class SimulatedCrash(BaseException):
    """The real pyxrt would have ended the process here: a segmentation fault or an abort.

    Not an ``Exception``, so that a driver's ``except Exception`` hides it no better than it would hide the
    real thing.
    """


class SimulatedHang(BaseException):
    """The real pyxrt would never have returned from this call, and would have kept the GIL."""
