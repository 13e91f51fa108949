"""The narrower declaration under which every probe that failed would have been left out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assay.contract.capabilities import Accuracy, BatchSizes
from assay.contract.reasons import ReasonCode
from assay.negotiation.exam import Question
from assay.negotiation.kernel import Kernel

Suggestion = tuple[str, Mapping[str, Any]]


@dataclass(slots=True)
class Outcome:
    """How one question went. ``wrong`` is empty when it passed; ``block`` is the length of a block,
    ``flag`` the capability that the question was about."""

    question: Question
    block: int = 0
    flag: str = ""
    wrong: str = ""
    code: ReasonCode = ReasonCode.INACCURATE
    advice: str = ""

    @property
    def size(self) -> int:
        """Elements of the main input."""
        main = self.question.probe.inputs[0]
        return 0 if main is None else main.size


def narrower(kernel: Kernel, outcomes: Sequence[Outcome]) -> list[Suggestion]:
    """Declarations that leave out what failed and keep something that passed, the likeliest first.

    They are guesses from one stage of a proof; whoever tells an author must have tried them.
    """
    declared = kernel.capabilities
    failed = [outcome for outcome in outcomes if outcome.wrong]
    passed = [outcome for outcome in outcomes if not outcome.wrong]
    found: list[Suggestion] = []
    if (flag := failed[0].flag) and getattr(declared, flag):
        return [(f"it without {flag}=True", {flag: False})]

    def separates(of: Callable[[Outcome], Any]) -> set[Any]:
        """The values of a property that only questions which passed have."""
        return {of(o) for o in passed} - {of(o) for o in failed}

    if dtypes := separates(lambda o: o.question.dtype) & declared.dtypes:
        found.append((f"dtypes={_set(dtypes)}", {"dtypes": frozenset(dtypes)}))
    for name in kernel.op.defaults:
        values = separates(lambda o, name=name: o.question.probe.params[name])  # type: ignore[misc]
        if values:
            params = {**declared.params, name: frozenset(values)}
            found.append((f'params={{"{name}": {_set(values)}}}', {"params": params}))
    if sizes := separates(lambda o: o.block) & set(declared.batch_sizes.sizes):
        text = ", ".join(map(str, sorted(sizes)))
        found.append((f"batch_sizes=BatchSizes({text})", {"batch_sizes": BatchSizes(*sizes)}))
    if shapes := _shapes([o.size for o in failed], [o.size for o in passed]):
        found.append((f"shapes=a predicate that takes {shapes[0]}", {"shapes": shapes[1]}))
    if declared.accuracy is Accuracy.EXACT:
        found.append(('accuracy="approximate"', {"accuracy": Accuracy.APPROXIMATE}))
    return found


def _set(values: set[Any]) -> str:
    return f"{{{', '.join(sorted(map(repr, values)))}}}"


def _shapes(failed: Sequence[int], passed: Sequence[int]) -> tuple[str, Callable[..., bool]] | None:
    """A bound on the main input's size, or a divisor of it, that what failed does not keep."""
    if not passed:
        return None
    most, least = max(passed), min(passed)
    if min(failed) > most:
        return f"up to {most} elements", lambda main, *rest: math.prod(main) <= most
    if max(failed) < least:
        return f"{least} elements and more", lambda main, *rest: math.prod(main) >= least
    return None
