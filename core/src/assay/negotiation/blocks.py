"""Items out of many probes, with the reference's results: what blocks of every length are made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.contract.capabilities import BatchSizes
from assay.contract.operation import Array, Params, Tolerance
from assay.negotiation.compare import Comparison, compare
from assay.negotiation.exam import Question
from assay.negotiation.kernel import Kernel

ROWS = 128
"""The most items in a pool, unless a block needs more of them."""

ELEMENTS = 4_000_000
"""Elements of input beyond which a pool is not extended, and blocks that prove nothing new are left out."""


@dataclass(eq=False)
class Pool:
    """Items of one shape and of the same parameters. Every row holds data of its own."""

    kernel: Kernel
    params: Params
    parts: list[tuple[list[Array], Question]] = field(default_factory=list)
    blocks: list[Array] = field(default_factory=list)
    sources: list[Question] = field(default_factory=list)

    def fill(self, rng: np.random.Generator, least: int) -> None:
        """Choose rows of what was gathered; where there are too few, weaker copies are added."""
        every = [np.concatenate(arrays) for arrays in zip(*(blocks for blocks, _ in self.parts), strict=True)]
        sources = [question for blocks, question in self.parts for _ in blocks[0]]
        most = max(1, ELEMENTS // max(1, sum(block[0].size for block in every)))
        chosen = rng.permutation(len(sources))[: min(max(ROWS, least), most)]
        chosen = np.resize(chosen, max(len(chosen), min(least, most)))
        self.blocks = [block[chosen] for block in every]
        self.sources = [sources[row] for row in chosen]
        extra = np.arange(len(chosen)) >= len(set(chosen))
        weaker = np.where(extra, rng.uniform(0.5, 1.0, len(chosen)), 1.0)
        main = self.blocks[0]
        self.blocks[0] = (main * weaker.reshape(-1, *[1] * (main.ndim - 1))).astype(main.dtype)

    @property
    def elements(self) -> int:
        """Elements of one item."""
        return sum(block[0].size for block in self.blocks)

    @cached_property
    def expected(self) -> NDArray[np.float64]:
        """The reference's results, one per row, as far as they can reach an answer."""
        form = self.kernel.op.items
        assert form is not None
        return self.settle(form.reference(*self.blocks, **self.params))

    @cached_property
    def limits(self) -> NDArray[np.float64]:
        """What each element may err: a slot is held to the tolerance of the probe that it comes from."""
        limits = np.empty(self.expected.shape)
        for source in set(self.sources):
            rows = [row for row, one in enumerate(self.sources) if one is source]
            part = tuple(block[rows] for block in self.blocks)
            accuracy = self.kernel.capabilities.accuracy
            # A root mean square is a figure of a whole result, not of one slot.
            limits[rows] = self.kernel.op.tolerance(
                source.probe.kind, part, self.params, self.expected[rows], accuracy
            ).max_abs
        return limits

    def settle(self, results: NDArray[Any]) -> NDArray[np.float64]:
        """What of item results can reach an answer."""
        form = self.kernel.op.items
        values = np.asarray(results, np.float64)
        return values if form is None or form.settle is None else form.settle(values)

    def compare(self, rows: NDArray[np.intp], got: Array, expected: NDArray[np.float64]) -> Comparison:
        """Hold settled results of some rows against others."""
        found = compare("", got, expected, Tolerance(self.limits[rows]))
        source = self.sources[rows[found.where[0]]].probe.name
        return replace(found, measurement=replace(found.measurement, probe=source))

    def pick(self, rng: np.random.Generator, size: int) -> NDArray[np.intp]:
        """Rows for one block, all different as long as the pool lasts."""
        rounds = [rng.permutation(len(self.sources)) for _ in range(-(-size // len(self.sources)))]
        return np.concatenate(rounds)[:size]


def pools(kernel: Kernel, questions: Sequence[Question], rng: np.random.Generator) -> list[Pool]:
    """The items of all questions, by shape, dtype and parameters."""
    found: dict[Any, Pool] = {}
    most = max(ROWS, *lengths(kernel))
    for question in questions:
        probe, dtype = question.probe, question.spec.dtype
        items = kernel.split(probe.inputs, probe.params)
        count = min(items.count, most)
        if not count:
            continue
        start = int(rng.integers(items.count - count + 1))
        params = kernel.item_params(probe.inputs, probe.params)
        blocks = [np.empty((count, *shape), dtype) for shape in items.shapes]
        items.load(start, start + count, blocks)
        key = (items.shapes, dtype, repr(sorted(params.items())))
        found.setdefault(key, Pool(kernel, params)).parts.append((blocks, question))
    for pool in found.values():
        pool.fill(rng, max(lengths(kernel)))
    return list(found.values())


def lengths(kernel: Kernel) -> tuple[int, ...]:
    """The block lengths that must be proved."""
    return kernel.capabilities.batch_sizes.to_prove(kernel.plan.batch_size)


def between(sizes: BatchSizes, demanded: int, rng: np.random.Generator) -> Iterator[int]:
    """The other lengths that a tail can have, in random order: none where they are declared one by one."""
    if not sizes.sizes:
        most = demanded if sizes.limit is None else min(demanded, sizes.limit)
        yield from map(int, 1 + rng.permutation(most))
