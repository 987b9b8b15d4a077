"""Recorded trainings as tables: a space, the curve of every configuration, and the rank of each.

A table answers what a real training would have given, so that a search of many trainings takes a second.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opttune.catalog.lookup import find_optimizer
from opttune.catalog.ranges import SearchRange
from opttune.guard.rules import Guard, StopDecision, judge, looks_for_blow_up
from opttune.outcome import StopReason
from opttune.space.model import Branch, Field, Range, Space

DEVELOP = (
    "deepobs/mnist_vae",
    "deepobs/fmnist_vae",
    "deepobs/fmnist_2c2d",
    "own/digits_mlp",
    "recorded/teacher_relu",
    "recorded/long_mlp",
    "recorded/long_mnist1d",
    "recorded/long_regression",
    "taskset/imdb_patch128_LSTM128_avg_bs64",
    "taskset/imdb_patch32_GRU64_avg_bs128",
    "taskset/imdb_patch32_IRNN64_relu_avg_bs128",
)
"""Tables on which thresholds, shares and rungs of the search may be chosen.

The shares of successive halving and of the sampler were chosen on these tables, a first version of them on the live
tasks `mlp` and `lstm` as well. Earlier versions had been run on all tables, so that `REPORT` is not untouched.

The catalog's centres for short trainings (`SearchRange.short_centre`) were looked up in both tables of `own/`
(`benchmarks/prior_length.py`), so that `own/mnist1d_mlp` is new to the search's thresholds but not to its prior. The
shifted priors are free of that, and the recorded tables, of the same data with other models and lengths, are less tied
to it.
"""
REPORT = (
    "deepobs/cifar10_3c3d",
    "deepobs/cifar100_allcnnc",
    "deepobs/svhn_wrn164",
    "deepobs/tolstoi_char_rnn",
    "own/mnist1d_mlp",
    "recorded/digits_cnn",
    "recorded/mnist1d_mlp",
)
"""Tables that are only reported on: no threshold is chosen by them.

DeepOBS's `quadratic_deep` is in neither: half of its configurations come to the same value.
"""
REPORT_LONG = (
    "recorded/long_lstm",
    "lm_schedules/124m",
    "taskset/imdb_patch128_LSTM128_bs64",
    "taskset/imdb_patch32_IRNN64_relu_last_bs128",
    "taskset/imdb_patch32_LSTM128_bs128",
    "taskset/imdb_patch32_VRNN128_tanh_bs128",
    "taskset/imdb_patch32_VRNN64_tanh_avg_bs128",
)
"""Tables of long trainings that are only reported on, each with figures of its own in the docs."""

GROUPS = {"DEVELOP": DEVELOP, "REPORT": REPORT, "REPORT_LONG": REPORT_LONG}
"""The sides of the split, as the command's `--tables` names them."""

Floats = NDArray[np.float64]


def group_of(name: str) -> str:
    """Return to which side of the split a table belongs.

    Example:
        >>> group_of("own/digits_mlp"), group_of("deepobs/svhn_wrn164"), group_of("recorded/long_lstm")
        ('DEVELOP', 'REPORT', 'REPORT_LONG')
    """
    return next((group for group, names in GROUPS.items() if name in names), "REPORT")


@dataclass(frozen=True)
class Table:
    """All configurations of one problem.

    Attributes:
        name: Folder and problem, as in `GROUPS`.
        space: What varies, with the catalog's centre for such a length as each learning rate's prior.
        rows: The recipe of each configuration, as `Recipe.flat()` names its fields; rates are in `lr`.
        steps: Optimizer steps of the full length.
        eval_steps: At which steps there was a validation, the last at the full length.
        values: The validation loss there, one row a configuration.
        loss_steps: At which steps, counted from 1, the training loss was recorded.
        losses: The training loss there, one row a configuration.
        look_steps: At which steps, ascending, a copy was looked at whose rate came down (`record_table.py`).
        looks: Its validation loss, one row a configuration.
        shares: The only rungs at which there are looks, as shares of the length; empty if there are enough of them for
            the search's own rungs.
    """

    name: str
    space: Space
    rows: Sequence[Mapping[str, Any]]
    steps: int
    eval_steps: NDArray[np.int64]
    values: Floats
    loss_steps: NDArray[np.int64]
    losses: Floats
    look_steps: tuple[int, ...] = ()
    looks: Floats | None = None
    shares: tuple[float, ...] = ()
    _verdicts: dict[tuple[int, Guard], StopDecision | None] = field(default_factory=dict, repr=False)
    _places: dict[tuple[Any, ...], list[tuple[float, int]]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows):
            self._places.setdefault(self._key(row), []).append((float(np.log(row["lr"])), number))

    def _key(self, flat: Mapping[str, Any]) -> tuple[Any, ...]:
        names = sorted({name for row in self.rows[:1] for name in row} - {"lr"})
        return tuple(flat.get(name) for name in names)

    def find(self, flat: Mapping[str, Any]) -> int:
        """Return the configuration of a recipe: the nearest recorded learning rate, all else alike.

        Args:
            flat: The recipe's fields, as `Recipe.flat()` gives them.

        Raises:
            KeyError: No configuration has those fields.
        """
        rate = float(np.log(flat["lr"]))
        return min(self._places[self._key(flat)], key=lambda place: abs(place[0] - rate))[1]

    def value_at(self, row: int, step: int) -> float | None:
        """Return the last validation loss at or before a step; None where it is not finite or there was none."""
        index = int(np.searchsorted(self.eval_steps, step, side="right")) - 1
        value = float(self.values[row, index]) if index >= 0 else float("nan")
        return value if isfinite(value) else None

    @property
    def has_looks(self) -> bool:
        """Whether its trainings were looked at on the way."""
        return self.looks is not None

    def look_at(self, row: int, step: int) -> float | None:
        """Return the value of a copy whose rate came down at a step, or nearby; None where it was not finite."""
        if self.looks is None:
            return self.value_at(row, step)
        nearest = min(range(len(self.look_steps)), key=lambda column: abs(self.look_steps[column] - step))
        value = float(self.looks[row, nearest])
        return value if isfinite(value) else None

    @property
    def customary_rows(self) -> tuple[int, ...]:
        """The configurations that people would try without a search."""
        return tuple(range(len(self.rows)))

    @property
    def quantiles(self) -> Floats:
        """The quantile of each configuration's final value: 0 is the best, 1 the worst."""
        final = self.final_values
        return np.array([(final < value).sum() for value in final]) / (len(final) - 1)

    @property
    def final_values(self) -> Floats:
        """The value of each configuration at the full length; infinite where it diverged."""
        return np.where(np.isfinite(self.values[:, -1]), self.values[:, -1], np.inf)

    def verdict(self, row: int, guard: Guard) -> StopDecision | None:
        """Return where opttune's guard would have stopped a configuration, or None where it would not."""
        if (row, guard) not in self._verdicts:
            self._verdicts[row, guard] = _judged(self.losses[row], self.loss_steps, self.steps, guard)
        return self._verdicts[row, guard]


def _judged(losses: Floats, loss_steps: NDArray[np.int64], total: int, guard: Guard) -> StopDecision | None:
    """Walk through a recorded curve as the guard would; a step without a record has the loss of the one before."""
    so_far: list[float] = []
    for step in range(1, total + 1):
        if not looks_for_blow_up(step, total, guard):
            break
        so_far.append(float(losses[max(0, int(np.searchsorted(loss_steps, step, side="right")) - 1)]))
        verdict = judge(so_far, total, guard)
        if verdict is not None:
            return verdict
    wrong = np.flatnonzero(~np.isfinite(losses))
    if not guard.non_finite or not len(wrong):
        return None
    step = int(loss_steps[wrong[0]])
    return StopDecision(StopReason.NON_FINITE, step, f"the loss became {losses[wrong[0]]:g} at step {step}")


def with_lr_priors(space: Space, change: float | None) -> Space:
    """Return a space with other priors of the learning rates.

    Args:
        space: What varies.
        change: By how many decades they are moved, as far as their range goes; None takes them away.
    """
    return replace(space, optimizers=tuple(_with_lr_prior(branch, change) for branch in space.optimizers))


def _with_lr_prior(branch: Branch, change: float | None) -> Branch:
    lr = branch.get("lr")
    if not isinstance(lr, Range):
        return branch
    prior = None if change is None else min(lr.high, max(lr.low, lr.centre * 10**change))
    moved = replace(lr, prior=prior)
    return replace(branch, fields=tuple((name, moved if name == "lr" else old) for name, old in branch.fields))


def rate_branches(
    rows: Sequence[Mapping[str, Any]], fields: Mapping[str, Mapping[str, Field]], steps: int
) -> tuple[Branch, ...]:
    """Return a branch for each optimizer, all with the range of the rates that were recorded."""
    rates = [row["lr"] for row in rows]
    low, high = min(rates), max(rates)
    return tuple(
        Branch(name, (("lr", Range(low, high, "log", prior=_centre(name, steps, low, high))), *others.items()))
        for name, others in fields.items()
    )


def _centre(optimizer: str, steps: int, low: float, high: float) -> float:
    search = find_optimizer(optimizer).options[0].searchable["lr"]
    if not isinstance(search, SearchRange):
        raise TypeError(f"the catalog has no range for the learning rate of {optimizer}")
    return min(high, max(low, search.centre_for(steps)))
