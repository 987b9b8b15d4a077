"""The settings of successive halving (the rungs, and which share of the trials passes each) and a trial's progress."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from opttune.algorithms.observations import Values
from opttune.errors import InputError
from opttune.space.model import RACED_FROM_STEPS

_LEAST_STEPS = 8
"""Minimum optimizer steps of a rung: fewer steps say nothing. Chosen by hand."""
_LOOKED_AT_FROM = 0.05
"""From this share of the length, a look tells trials apart even if their warmup lasts longer."""
ONE_TRAINING_BELOW = 2.0
"""A budget below this, in full trainings, pays for one training to the end and for looks."""
_RACE_AND_BASELINE_FROM = 3.0
"""A budget from this on pays for two trainings, the first looks of a race, and those of the runners-up."""


@dataclass(frozen=True, slots=True)
class SuccessiveHalving:
    """The rungs, and the shares of promoted trials.

    `shares`, `kept` and `kept_of_all` were chosen by replaying recorded trainings (`benchmarks/search.py replay
    --tables DEVELOP`). A first version of them was also chosen on two live tasks. docs/the_search.md reports on other
    tables and tasks. `most_paused` was chosen by hand.

    Attributes:
        shares: The rungs below the full length, as ascending shares of it, in (0, 1). Without any, each trial trains
            to the end.
        kept: For each rung, the promoted share of an optimizer's trials there, in (0, 1].
        kept_of_all: For each rung, the promoted share of the trials of all optimizers.
        most_paused: The number of trials that stay paused at a rung; worse ones are discarded.
        line_search: Whether an optimizer's trials stay at the first rung during its line search.
        look_share: Length of a look, as a share of the steps so far. A look compares a trial by a copy whose learning
            rate decays from the rung within these steps; 0 compares the values at the rung itself.
        races: Whether all optimizers have a look before the first promotion, and the lowest rung goes first.
        first_steps: The lowest optimizer step for a rung.
        baseline_from: The budget, in full trainings, from which the baseline is trained to its end.

    Raises:
        InputError: `shares` do not ascend in (0, 1), or another field is out of range.

    Example:
        >>> SuccessiveHalving().steps(300)
        (30, 105, 300)
    """

    shares: tuple[float, ...] = (0.1, 0.35)
    kept: tuple[float, ...] = (0.5, 0.35)
    kept_of_all: tuple[float, ...] = (1.0, 0.35)
    most_paused: int = 5
    line_search: bool = True
    look_share: float = 0.0
    races: bool = False
    first_steps: int = 0
    baseline_from: float = ONE_TRAINING_BELOW

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
        """Return the rungs in optimizer steps, the full length last.

        A rung within the warmup moves to the end of the warmup: while learning rates rise, slow starters look bad. If
        trials are compared by looks, it moves no further than to 5% of the length. Rungs that are too short to be
        informative are omitted.

        Args:
            total_steps: The full length in optimizer steps.
            warmup_share: The longest warmup of any recipe, as a share of the length.
        """
        least = min(warmup_share, _LOOKED_AT_FROM) if self.look_share else warmup_share
        steps = {max(round(max(share, least) * total_steps), self.first_steps) for share in self.shares}
        return (*sorted(step for step in steps if _LEAST_STEPS <= step < total_steps), total_steps)

    def look_steps(self, rung: int) -> int:
        """Return the optimizer steps of a look at a rung, during which the rate of the copy decays; 0 for no look.

        Example:
            >>> SuccessiveHalving().look_steps(100), FOR_LONG_TRAININGS.look_steps(100)
            (0, 20)
        """
        return max(1, round(self.look_share * rung)) if self.look_share else 0


FOR_LONG_TRAININGS = SuccessiveHalving(
    shares=(0.02, 0.1, 0.35),
    kept=(0.5, 0.5, 0.35),
    kept_of_all=(0.3, 0.3, 0.2),
    most_paused=10,
    look_share=0.2,
    races=True,
    first_steps=100,
    baseline_from=_RACE_AND_BASELINE_FROM,
)
"""The rungs of long trainings, chosen on the long tables for development."""


def halving_for(total_steps: int) -> SuccessiveHalving:
    """Return the rungs for trainings of a length.

    Example:
        >>> halving_for(300).steps(300), halving_for(10_000).steps(10_000)
        ((30, 105, 300), (200, 1000, 3500, 10000))
    """
    return FOR_LONG_TRAININGS if total_steps >= RACED_FROM_STEPS else SuccessiveHalving()


def is_raced(total_steps: int, budget: float, can_look: bool) -> bool:
    """Return whether a search races.

    It needs trainings that are long enough for a first look, and looks that decay: without these, the values at 2% of
    the length mislead. On the DeepOBS tables for development, whose constant rates never decay, a race needs 4.95
    trainings to the best 5%, and the search of short trainings 3.48. A budget below 2 pays for one training, so that
    looks of any kind are all that it can choose by: on TaskSet's tables for development, 93% of the races end among
    the best 5%, and 67% of the other searches (`benchmarks/search.py replay`).

    Args:
        total_steps: The full length in optimizer steps.
        budget: Cost of the search in full trainings.
        can_look: Whether a copy of a training can be looked at; several processes cannot.

    Example:
        >>> is_raced(300, 10, True), is_raced(5000, 10, True), is_raced(5000, 10, False), is_raced(5000, 1.5, False)
        (False, True, False, True)
    """
    return total_steps >= RACED_FROM_STEPS and (can_look or budget < ONE_TRAINING_BELOW)


@dataclass(frozen=True, slots=True)
class TrialProgress:
    """The progress of a trial.

    Attributes:
        number: The trial's number.
        values: Its value at each rung that it has reached; lower is better, None if it is not defined there.
        steps: Its optimizer steps at its last rung or at its end.
        stopped_at: Optimizer step of the checkpoint of its last interruption; 0 if it was not interrupted.
        is_paused: Whether it is paused at its last rung and can be promoted.
        optimizer: The name of its optimizer.
        rate: Its learning rate; None if it has none.
    """

    number: int
    values: Values
    steps: int
    stopped_at: int = 0
    is_paused: bool = False
    optimizer: str = ""
    rate: float | None = None

    def has_finished(self, rungs: Sequence[int]) -> bool:
        """Return whether it has passed every rung, including the first; a given baseline had no look on any."""
        return len(self.values) == len(rungs) and self.values[0] is not None
