"""The ladder: at which shares of the length trials are compared, and who goes on.

A trial is trained to the first rung. One that is among the better of its own optimizer there goes on at once; at the
second it must be among the better of all optimizers as well. One that is not is paused with its state, and goes on when
it turns out that it was among the better after all.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from math import sqrt

import numpy as np
import numpy.typing as npt

from opttune.errors import InputError

_LEAST_STEPS = 8
"""A rung of fewer optimizer steps tells nothing."""
_LEAST_FINISHED = 2
"""So many finished trials say whether values get worse on the way to the end."""
_LEAST_PAIRS = 6
_LEAST_CORRELATION = 0.5
"""Where the ranks of so many finished trials agree less than this between a rung and the end, only a trial that is
worse there than all of them is paused."""


@dataclass(frozen=True, slots=True)
class SuccessiveHalving:
    """Rungs, and who goes on from them.

    Attributes:
        shares: The rungs below the full length, as shares of it, ascending, in (0, 1); none trains every trial to
            the end.
        kept: For each rung the best share of the trials of an optimizer seen there that goes on, in (0, 1].
        kept_of_all: The same among the trials of all optimizers.
        most_paused: So many trials at most wait at a rung; the worst beyond are given up.
        line_search: Whether the trials of an optimizer wait at the first rung while a line search along its learning
            rate goes on.

    Raises:
        InputError: The shares do not ascend in (0, 1), or the others do not go with them.

    Example:
        >>> SuccessiveHalving().steps(300)
        (30, 105, 300)
    """

    shares: tuple[float, ...] = (0.1, 0.35)
    kept: tuple[float, ...] = (0.5, 0.35)
    kept_of_all: tuple[float, ...] = (1.0, 0.35)
    most_paused: int = 5
    line_search: bool = True

    def __post_init__(self) -> None:
        bounds = (0.0, *self.shares, 1.0)
        if any(low >= high for low, high in pairwise(bounds)):
            raise InputError(f"SuccessiveHalving: shares must ascend between 0 and 1, got {self.shares!r}.")
        for name in ("kept", "kept_of_all"):
            kept = getattr(self, name)
            if len(kept) != len(self.shares) or any(not 0 < share <= 1 for share in kept):
                raise InputError(f"SuccessiveHalving: {name} must hold a share in (0, 1] for each rung, got {kept!r}.")
        if self.most_paused < 1:
            raise InputError(f"SuccessiveHalving: most_paused must be at least 1, got {self.most_paused!r}.")

    def steps(self, total_steps: int, warmup_share: float = 0.0) -> tuple[int, ...]:
        """Return the optimizer steps of the rungs, the full length last.

        A rung within the warmup is moved to its end: while rates rise, slow starters look bad. A rung that is
        too short to tell anything is left out.

        Args:
            total_steps: Optimizer steps of the full length.
            warmup_share: The longest warmup of any recipe, as a share of the length.
        """
        steps = (round(max(share, warmup_share) * total_steps) for share in self.shares)
        return (*sorted({step for step in steps if _LEAST_STEPS <= step < total_steps}), total_steps)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a trial stands on the ladder.

    Attributes:
        number: Its number.
        values: Its value at each rung that it has reached; lower is better.
        steps: Optimizer steps that it had done at its last rung, or at its end.
        stopped_at: Optimizer step where somebody stopped it last and its state was saved; 0 for none.
        is_paused: Whether it waits at its last rung and can go on.
        optimizer: The name of its optimizer.
        rate: Its learning rate; None where it has none.
    """

    number: int
    values: tuple[float, ...]
    steps: int
    stopped_at: int = 0
    is_paused: bool = False
    optimizer: str = ""
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class Promote:
    """The move that trains a paused trial to its next rung.

    Attributes:
        number: The trial.
    """

    number: int


@dataclass(frozen=True, slots=True)
class Start:
    """The move that starts a new trial."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """The move that trains the recipe of a finished trial on a second seed.

    Attributes:
        number: The trial.
    """

    number: int


Move = Promote | Start | Repeat


def next_move(
    ladder: SuccessiveHalving,
    rungs: Sequence[int],
    standings: Sequence[Standing],
    steps_left: int,
    *,
    may_start: bool = True,
    begun_steps: int = 0,
    uses_up: bool = True,
    at_once: int = 1,
    is_held: Callable[[Standing], bool] = lambda one: False,
) -> Promote | Start | None:
    """Return what to train next, or None where nothing is left to do or to pay.

    A trial is only begun where the budget could bring it to the end, and only promoted where it could bring it
    there. What the others run at the same time does not hold a move up: several workers ask one after another.

    Args:
        ladder: Who goes on.
        rungs: The rungs in optimizer steps, the full length last, as `SuccessiveHalving.steps` gives them.
        standings: All trials that have begun.
        steps_left: Optimizer steps that may still be spent.
        may_start: Whether a new trial may begin.
        begun_steps: Optimizer steps that the trial which starts next has done, where somebody stopped it before its
            first rung.
        uses_up: Whether at the end, when nothing new can begin, the best of those that are paused go on for as long
            as the budget lasts.
        at_once: How many are trained at a time, of which each may be the latest.
        is_held: Whether a trial that could go on waits at the first rung even so; asked as long as the rung tells
            something and a new trial can begin.
    """
    payable = [one for one in standings if one.is_paused and steps_left >= rungs[-1] - max(one.steps, one.stopped_at)]
    peers = {steps: Peers(ladder, rungs, standings, steps, at_once) for steps in {one.steps for one in payable}}
    # the furthest first, and of these the best
    payable.sort(key=lambda one: (-one.steps, one.values[-1], one.number))
    can_start = may_start and steps_left >= rungs[-1] - begun_steps
    for one in payable:
        seen = peers[one.steps]
        may_be_held = can_start and one.steps == rungs[0] and seen.tell
        if seen.is_promotable(one) and not (may_be_held and is_held(one)):
            return Promote(one.number)
    if can_start:
        return Start()
    return Promote(payable[0].number) if payable and uses_up else None


class Peers:
    """All trials that were seen at a rung, and what they say of it.

    Args:
        ladder: Who goes on.
        rungs: The rungs in optimizer steps, the full length last.
        standings: All trials that have begun.
        steps: The rung.
        at_once: How many are trained at a time, of which each may be the latest.
    """

    def __init__(
        self, ladder: SuccessiveHalving, rungs: Sequence[int], standings: Sequence[Standing], steps: int, at_once: int
    ) -> None:
        level = self._level = rungs.index(steps)
        self._standings, self._at_once = standings, at_once
        finished = tuple([one.values for one in standings if len(one.values) == len(rungs)])
        self._gets_worse, self._disagree, self._worst_finished = _verdict(finished, level)
        # of a ladder of which rungs were left out, the highest count
        above = level - (len(rungs) - 1)
        self._kept, self._kept_of_all = ladder.kept[above], ladder.kept_of_all[above]

    @property
    def tell(self) -> bool:
        """Whether values at the rung say something of those at the end."""
        return not (self._gets_worse or self._disagree)

    def is_promotable(self, one: Standing) -> bool:
        """Return whether one that is paused there is among the better, as far as the rung tells."""
        value = one.values[self._level]
        # those that were paused before it was known had shown that they are worse, if only there
        if not self.tell:
            is_good_enough = self._gets_worse or value <= self._worst_finished
            return one.number in self._latest and is_good_enough
        # early in a training some optimizers look better than they are, and some worse
        return _is_among(self._seen[one.optimizer], self._kept, value) and _is_among(
            self._seen_of_all, self._kept_of_all, value
        )

    # one of the two is needed, and at every move
    @cached_property
    def _latest(self) -> set[int]:
        return set(sorted(one.number for one in self._standings)[-self._at_once :])

    @cached_property
    def _seen(self) -> dict[str, list[float]]:
        """The values of each optimizer's trials at the rung, ascending."""
        seen: dict[str, list[float]] = {}
        for one in self._standings:
            if len(one.values) > self._level:
                seen.setdefault(one.optimizer, []).append(one.values[self._level])
        return {optimizer: sorted(values) for optimizer, values in seen.items()}

    @cached_property
    def _seen_of_all(self) -> list[float]:
        return sorted(value for values in self._seen.values() for value in values)


def _is_among(seen: Sequence[float], kept: float, value: float) -> bool:
    """Return whether a value is among the best share of all that were seen, which ascend."""
    return bisect_left(seen, value) < kept * len(seen)


def gets_worse(finished: Sequence[tuple[float, float]]) -> bool:
    """Return whether trials get worse from a rung to the end: where models overfit, what is best early is worst there.

    Args:
        finished: The value at the rung and at the end of each finished trial.
    """
    worse = sum(end > early for early, end in finished)
    return len(finished) >= _LEAST_FINISHED and worse > len(finished) / 2


def ranks_disagree(finished: Sequence[tuple[float, float]]) -> bool:
    """Return whether the ranks of finished trials at a rung say little of their ranks at the end.

    Args:
        finished: The value at the rung and at the end of each finished trial.
    """
    if len(finished) < _LEAST_PAIRS or any(len(set(column)) < 2 for column in zip(*finished, strict=True)):
        return False
    before, after = (_ranks(column) for column in zip(*finished, strict=True))
    before, after = before - before.mean(), after - after.mean()
    return float(before @ after / sqrt((before @ before) * (after @ after))) < _LEAST_CORRELATION


@lru_cache(maxsize=8)
def _verdict(finished: tuple[tuple[float, ...], ...], level: int) -> tuple[bool, bool, float]:
    """Return what finished trials say of a rung; asked at every move, it changes when a trial ends.

    Args:
        finished: Their values at all rungs.
        level: Which rung, counted from 0.

    Returns:
        Whether trials get worse on the way to the end, whether their ranks disagree, and the worst value there.
    """
    pairs = [(values[level], values[-1]) for values in finished]
    return gets_worse(pairs), ranks_disagree(pairs), max((early for early, _ in pairs), default=0.0)


def surplus(
    ladder: SuccessiveHalving, rungs: Sequence[int], standings: Sequence[Standing], at_once: int = 1
) -> list[int]:
    """Return the paused trials that are too far down in the pool to go on ever, the worst last.

    Their saved states are what would fill the disk.
    """
    found = []
    for rung in rungs[:-1]:
        waiting = [one for one in standings if one.is_paused and one.steps == rung]
        peers = Peers(ladder, rungs, standings, rung, at_once) if len(waiting) > ladder.most_paused else None
        waiting = [one for one in waiting if peers is not None and not peers.is_promotable(one)]
        waiting.sort(key=lambda one: (one.values[-1], one.number))
        found += [one.number for one in waiting[ladder.most_paused :]]
    return found


def _ranks(values: Sequence[float]) -> npt.NDArray[np.float64]:
    """Return how many values each is above."""
    return np.searchsorted(np.sort(values), values).astype(np.float64)
