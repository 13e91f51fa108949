"""A module that a loser needs and nobody else: it stands for a heavy library."""


def kernel(x, *, times):
    return x * 0
