"""Guarded calls of a kernel: nothing that it leaves behind, or takes along, goes unseen.

A kernel gets arrays of the proof's own, lent from the middle of a larger piece of memory at an odd place,
and an output full of NaN or of garbage. Its result is copied and then spoiled, so that a kernel that still
uses it shows itself.
"""

from __future__ import annotations

import gc
import sys
import time
import types
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from assay.contract.operation import Array, Arrays
from assay.contract.reasons import ReasonCode
from assay.negotiation.kernel import BadResult, Kernel

MARGIN = 16
"""Elements on both sides of a lent array that no kernel may touch."""

REMEMBERED = 64
"""Calls whose arrays are looked at again later, as long as they hold fewer than ``LARGE`` elements."""

LARGE = 65_536
ALONE = 5
"""Holders of a loan that nobody else keeps: itself, its view's base, and those who count."""

PATIENCE_S = 0.5
"""How long the threads of a kernel may take to let go of an array after it has returned."""


class Wrong(Exception):
    """What one call did wrong, in words, and what its author can do."""

    def __init__(self, what: str, advice: str = "", code: ReasonCode = ReasonCode.INACCURATE) -> None:
        super().__init__(what)
        self.what, self.advice, self.code = what, advice, code


Run = Callable[[Arrays, "Array | None"], Array]


@dataclass(slots=True)
class _Loan:
    """An array lent to a kernel: a view into the middle of memory that the proof owns."""

    memory: Array
    start: int
    view: Array
    before: bytes

    @classmethod
    def of(cls, array: Array, rng: np.random.Generator) -> _Loan:
        start = int(rng.integers(1, MARGIN))
        memory = np.full(array.size + 2 * MARGIN, nothing(array.dtype), array.dtype)
        memory[start : start + array.size] = array.reshape(-1)
        view = memory[start : start + array.size].reshape(array.shape)
        return cls(memory, start, view, memory.tobytes())

    def refill(self, array: Array) -> None:
        """Other data in the same array object."""
        self.memory[self.start : self.start + array.size] = array.reshape(-1)
        self.before = self.memory.tobytes()

    @property
    def changed(self) -> bool:
        return self.memory.tobytes() != self.before

    @property
    def margins_changed(self) -> bool:
        now, first = self.memory.tobytes(), self.start * self.memory.itemsize
        last = first + self.view.nbytes
        return now[:first] != self.before[:first] or now[last:] != self.before[last:]

    @property
    def holders(self) -> int:
        """References to the view, or to its memory: its own and more where somebody keeps it."""
        return sys.getrefcount(self.memory) + sys.getrefcount(self.view)


@dataclass(slots=True)
class Witness:
    """Makes guarded calls of one kernel."""

    rng: np.random.Generator
    gives_out: bool
    _lent: list[_Loan | None] = field(default_factory=list)
    _lingering: bool = False
    _seen: deque[tuple[list[_Loan], Array, bytes]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def call(
        self,
        run: Run,
        inputs: Arrays,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        *,
        in_place: bool = False,
        read_only: bool = False,
    ) -> Array:
        """One call; returns a private copy of its result.

        Args:
            run: ``run(inputs, out)`` calls the kernel.
            inputs: What it gets copies of.
            shape: Of the result.
            dtype: Of the result.
            in_place: Give it the array objects of the call before, with this data in them.
            read_only: Give it arrays that refuse to be written to.

        Raises:
            Wrong: The call broke the contract, or showed that an earlier one had.
        """
        if in_place:
            for loan, array in zip(self._lent, inputs, strict=True):
                if loan is not None and array is not None:
                    loan.refill(array)
        else:
            self._lent = [None if array is None else _Loan.of(array, self.rng) for array in inputs]
        loans = [loan for loan in self._lent if loan is not None]
        given: Arrays = tuple(None if loan is None else loan.view for loan in self._lent)
        for loan in loans:
            loan.view.flags.writeable = not read_only
        held = [loan.holders for loan in loans]
        out = self._unwritten(shape, dtype)
        result = self._run(run, given, None if out is None else out.view, read_only)
        for loan in loans:
            if loan.changed:
                raise Wrong("wrote to its input", "copy before working in place")
            if np.may_share_memory(result, loan.memory):
                raise Wrong(
                    "returned memory that it shares with its input",
                    "return an array of its own, or fill out=",
                )
        if out is not None and out.margins_changed:
            raise Wrong("wrote outside of the out= that it was given", "stay inside out=")
        self._look_at(list(self._seen)[-2:])
        answer = np.array(result)
        _spoil(result)
        self._check_released(loans, held)
        if answer.size + sum(loan.memory.size for loan in loans) <= LARGE:
            self._seen.append((loans, result, result.tobytes()))
        return answer

    def _run(self, run: Run, given: Arrays, out: Array | None, read_only: bool) -> Array:
        try:
            return run(given, out)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # a kernel may raise anything
            raise raised(error, "given read-only arrays: " * read_only) from None

    def _unwritten(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> _Loan | None:
        """An output full of NaN or of garbage: what is left of either was never written."""
        filled = np.full(shape, nothing(dtype), dtype)
        if filled.size <= LARGE and (dtype.kind not in "fV" or self.rng.random() < 0.3):
            filled = (100 * self.rng.standard_normal(shape)).astype(dtype)
        # Without out=, it is let go again: numpy's next array of this size may come to lie there.
        return _Loan.of(filled, self.rng) if self.gives_out else None

    def look_back(self) -> None:
        """See that nothing has touched the arrays of earlier calls, and that nobody keeps them.

        Raises:
            Wrong: Something has.
        """
        self._look_at(self._seen)
        kept = sum(any(loan.holders > ALONE for loan in loans) for loans, _, _ in self._seen)
        if kept > REMEMBERED // 2:
            raise Wrong(
                f"keeps references to the inputs of {kept} earlier calls",
                "keep no reference to an array after returning",
            )

    def _look_at(self, calls: Iterable[tuple[list[_Loan], Array, bytes]]) -> None:
        for loans, result, before in calls:
            if result.tobytes() != before:
                raise Wrong(
                    "changed the result of an earlier call: it returns a buffer that it uses again",
                    "return a fresh array for each call",
                )
            if any(loan.changed for loan in loans):
                raise Wrong(
                    "wrote to an input after it had returned", "keep no reference to an array after returning"
                )

    def _check_released(self, loans: list[_Loan], held: list[int]) -> None:
        """Nobody keeps an input; a kernel's own threads, and cycles, get some time to let go of it."""
        deadline = time.perf_counter() + PATIENCE_S
        while not self._lingering and any(
            loan.holders > before for loan, before in zip(loans, held, strict=True)
        ):
            if time.perf_counter() < deadline:
                time.sleep(0.001)
                continue
            gc.collect()
            self._lingering = True
            if any(_kept(loan.view) for loan in loans):
                raise Wrong(
                    "keeps a reference to its input after returning",
                    "keep no reference to an array after returning",
                )


def _kept(thing: Any) -> bool:
    """Whether a module, a class or the kernel itself leads to something.

    What only a local variable of a thread leads to, one that waits for its next piece of work, is not kept.
    """
    known: dict[int, Any] = {}
    nearest = [thing]
    for _ in range(6):
        owners = gc.get_referrers(*nearest)
        ours = {id(known), id(nearest), id(owners)}
        nearest = [
            one
            for one in owners
            if id(one) not in known and id(one) not in ours and not isinstance(one, _Loan | types.FrameType)
        ]
        if any(isinstance(one, Kernel | type) or _is_module(one) for one in nearest):
            return True
        if not nearest:
            break
        known |= {id(one): one for one in nearest}
    return False


def _is_module(thing: Any) -> bool:
    return isinstance(thing, dict) and "__builtins__" in thing


def raised(error: BaseException, when: str = "") -> Wrong:
    """The failure of a kernel that raised."""
    if isinstance(error, BadResult):
        return Wrong(f"{when}{error}")
    if isinstance(error, SystemExit):
        return Wrong(
            f"{when}called sys.exit({error.code!r})", "never call exit in a kernel", ReasonCode.CRASHED
        )
    advice = "never write to an input; the caller's own array may be read-only" if "read-only" in when else ""
    return Wrong(f"{when}raised {type(error).__name__}: {error}", advice, ReasonCode.RAISED)


def _spoil(result: Array) -> None:
    """Whoever uses this result again will not find it as it was."""
    if result.flags.writeable:
        result[...] = nothing(result.dtype)


def nothing(dtype: np.dtype[Any]) -> float:
    """What no kernel computes: NaN, where the dtype has it (bfloat16 is of kind V)."""
    return np.nan if dtype.kind in "fV" else 1
