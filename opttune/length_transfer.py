"""Move the recipe of a search to a longer or shorter training, and forecast its value there.

- The learning rate is multiplied by `(N / T)^-e` (`algorithms.length_law`), by a factor of `MOST_MOVE` at most, within
  the range of the catalog, and stays below rates that diverged.
- Decoupled weight decay: learning rate and decay set the number of steps of AdamW's average, `1 / (lr wd)`. In
  one pass over the data the best product falls as `T^-0.473` for a given model: `1 / (lr wd T)` falls with the power
  0.527 of tokens per parameter (Bergsma et al. 2025, "Power Lines", https://arxiv.org/abs/2505.13738). In several
  passes the best timescale, counted in epochs, is constant, and so is the product (Wang and Aitchison 2024,
  https://arxiv.org/abs/2405.13698). Both were measured on AdamW; for other decoupled decays they are an analogy. If the
  number of passes is unknown, the two disagree and the decay stays.
- Warmup and all other parts of a schedule are shares of the length and stay shares. Momenta, groups and clipping stay.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import inf, isfinite
from pathlib import Path

from opttune.algorithms.length_law import (
    COVERAGE,
    LEAST_POINTS,
    Forecast,
    RateComparison,
    RateTrial,
    compare_rates,
    forecast,
    shrunk_exponent,
)
from opttune.catalog.info import OptimizerInfo
from opttune.catalog.lookup import find_optimizer, find_schedule
from opttune.catalog.ranges import SearchRange
from opttune.errors import InputError
from opttune.outcome import Outcome, StopReason, optimizer_steps
from opttune.recipe import Part, Recipe
from opttune.space.model import RACED_FROM_STEPS
from opttune.study.frozen_study import FrozenStudy, load_study
from opttune.trial_record import TrialRecord
from opttune.yaml_text import write_yaml

MOST_MOVE = 3.0
"""The learning rate moves by this factor at most. Chosen by hand."""
MOST_STRETCH = 100.0
"""Lengths beyond this multiple of the searched length, or below its inverse, are refused."""
ONE_PASS_EXPONENT = 0.473
"""Of the product of learning rate and weight decay over the length, in one pass over the data."""
_DIVERGED_MARGIN = 0.9


@dataclass(frozen=True, slots=True)
class Transferred:
    """A recipe for another length.

    Attributes:
        recipe: The recipe.
        source: The source of the recipe, in words.
        steps: Optimizer steps of the new length.
        trained_steps: Optimizer steps of the searched length.
        epochs: The searched and the new length in epochs, if the new one was given so; else None.
        moved: The changed and unchanged settings with the reasons, one sentence each.
        monitor: The metric.
        value: Its value at the searched length.
        expected: The forecast at the new length; None if there is none.
        basis: The basis of the forecast, or the reason why there is none, one sentence each.
        facts: What else is known of the two lengths, one sentence each.
        default_path: The default file for a recipe of this length.
    """

    recipe: Recipe
    source: str
    steps: int
    trained_steps: int
    moved: tuple[str, ...]
    monitor: str
    value: float
    expected: Forecast | None
    basis: tuple[str, ...]
    facts: tuple[str, ...]
    default_path: Path
    epochs: tuple[float, int] | None = None

    @property
    def ratio(self) -> float:
        """The new length divided by the searched one."""
        return self.steps / self.trained_steps

    @property
    def words(self) -> list[str]:
        """The lines to print."""
        expected = "no forecast can be made"
        if (found := self.expected) is not None:
            expected = f"{found.value:.5g}, {COVERAGE:.0%} interval {found.low:.5g} to {found.high:.5g}"
        searched, new = f"{self.trained_steps} steps", f"{self.steps} steps"
        if self.epochs is not None:
            searched, new = f"{self.epochs[0]:g} epochs ({searched})", f"{self.epochs[1]} epochs ({new})"
        return [
            f"{self.source}, searched for {searched}, for {new}, {self.ratio:.3g} times as long:",
            "",
            write_yaml(self.recipe.to_dict()).rstrip(),
            "",
            "moved:",
            *(f"  {sentence}" for sentence in self.moved),
            f"expected {self.monitor}: {expected} (it was {self.value:.5g})",
            "based on:" if found is not None else "because:",
            *(f"  {sentence}" for sentence in self.basis),
            *self.facts,
        ]

    def comments(self, file_name: str) -> list[str]:
        """Return the comment lines above the recipe in a file of that name."""
        lines = [
            f"{self.source}, searched for {self.trained_steps} steps and moved to {self.steps}; not trained yet",
            f"length: max_steps={self.steps}" if self.epochs is None else f"length: max_epochs={self.epochs[1]}",
            f"to train with it: RecipeCallback({file_name!r})",
        ]
        if self.expected is not None:
            low, high = self.expected.low, self.expected.high
            lines.insert(1, f"expected {self.monitor}: {self.expected.value:.5g}, from {low:.5g} to {high:.5g}")
        return lines


def transfer_study(
    study: str,
    max_steps: int | str | None = None,
    *,
    max_epochs: int | str | None = None,
    storage: str | None = None,
    trial: int | None = None,
) -> Transferred:
    """Return the best recipe of a search for a training of another length.

    Args:
        study: Name of a study, or folder of a search.
        max_steps: Optimizer steps of that training, or a multiple of the searched length, such as `10x`.
        max_epochs: The same in epochs, for a search whose length was given so; give one of them.
        storage: Optuna storage URL.
        trial: Number of the trial whose recipe to take; None for the best.

    Raises:
        OpttuneError: There is no such study or trial, it has not finished, or its recipe cannot be moved.
    """
    return transfer_recipe(load_study(study, storage), max_steps, trial, max_epochs)


def transfer_recipe(
    found: FrozenStudy, max_steps: int | str | None, trial: int | None = None, max_epochs: int | str | None = None
) -> Transferred:
    """Return the moved recipe of a search that is already read; see `transfer_study`."""
    record, recipe = found.recipe_of(trial)
    outcome, value = _end_of(found, record, recipe)
    trained = optimizer_steps(outcome.total_steps, outcome.share)
    epochs = None if max_epochs is None else _read_epochs(max_epochs, found, trained)
    steps = round(trained * epochs[1] / epochs[0]) if epochs else _read_steps(max_steps, trained)
    _refuse_far("--max-epochs" if epochs else "--max-steps", steps, trained)
    comparisons = compare_rates(list(_rate_trials(found)))
    passes = _passes(found, recipe, trained)
    exponent = shrunk_exponent(comparisons).mean
    moved, reasons = move_recipe(
        recipe, steps / trained, exponent, passes, _ceilings(found), lengths=f"{steps}/{trained}"
    )
    expected, basis = _expected(found, record, trained, steps)
    return Transferred(
        recipe=moved,
        source=f"{record.title} of the study {found.name}",
        steps=steps,
        trained_steps=trained,
        moved=(*reasons, *_words_of_exponent(comparisons)),
        monitor=found.config.monitor,
        value=value,
        expected=expected,
        basis=(*basis, *_limits(passes, steps / trained, expected)),
        facts=(_words_of_passes(passes, steps / trained),),
        default_path=found.config.out_dir
        / (f"recipe_{epochs[1]}_epochs.yaml" if epochs else f"recipe_{steps}_steps.yaml"),
        epochs=epochs,
    )


def _end_of(found: FrozenStudy, record: TrialRecord, recipe: Recipe) -> tuple[Outcome, float]:
    """Return a trial's outcome and value; refuse a trial that cannot be moved."""
    outcome = record.outcome
    if outcome is None or record.value is None:
        raise InputError(
            f"--trial: trial {record.number} of {found.name} was not trained to the end. Give one that was."
        )
    if any(find_schedule(part.name).follows_monitor for part in recipe.schedule.split()):
        raise InputError(
            f"STUDY: {found.name}: the schedule {recipe.schedule.name} of {record.title} follows "
            f"{found.config.monitor}, so its rate at another length is unknown. Give --trial N with a schedule "
            "that is a curve over the length."
        )
    return outcome, record.value


def _read_steps(given: int | str | None, trained: int) -> int:
    """Return the number of optimizer steps from a number, or from a multiple of the trained steps.

    Example:
        >>> _read_steps("5000", 2_000), _read_steps("2.5x", 2_000)
        (5000, 5000)
    """
    steps = _read_length(given, trained)
    if steps < 1:
        raise InputError(
            f"--max-steps must be a whole number of optimizer steps > 0, or a multiple of the {trained} searched "
            f"steps such as 10x, got {str(given)!r}."
        )
    return steps


def _read_epochs(given: int | str, found: FrozenStudy, trained: int) -> tuple[float, int]:
    """Return the searched and the new length in epochs."""
    searched = _epochs(found, trained)
    if searched is None:
        raise InputError(
            f"--max-epochs: {found.name} was searched for {trained} steps, and it is not known how many an epoch has. "
            "Give --max-steps N, or a multiple such as --max-steps 10x."
        )
    epochs = _read_length(given, searched)
    if epochs < 1:
        raise InputError(
            f"--max-epochs must be a whole number of epochs > 0, or a multiple of the {searched:g} searched epochs "
            f"such as 10x, got {str(given)!r}."
        )
    return searched, epochs


def _read_length(given: int | str | None, searched: float) -> int:
    """Return a length from a number, or from a multiple of the searched one; 0 if it is neither."""
    found = re.fullmatch(r"(\d{1,15})|(\d{1,9}(?:\.\d{1,9})?)x", str(given).strip())
    return 0 if found is None else int(found[1]) if found[1] else round(float(found[2]) * searched)


def _refuse_far(flag: str, steps: int, trained: int) -> None:
    if not trained / MOST_STRETCH <= steps <= trained * MOST_STRETCH:
        raise InputError(
            f"{flag}: {steps} is {steps / trained:.3g} times the {trained} searched steps. Nothing is known about "
            f"lengths beyond {MOST_STRETCH:.0f} times or below 1/{MOST_STRETCH:.0f} of it: search at a length "
            "in between (--warm-start takes this study's recipes)."
        )


def _epochs(study: FrozenStudy, steps: int) -> float | None:
    """Return a training's epochs; None for a search whose length was not given so."""
    if set(study.config.length) != {"max_epochs"}:
        return None
    # of equal time, a recipe with costly steps has ended before the last epoch
    return study.config.length["max_epochs"] * steps / study.total_steps


def _values_by_length(study: FrozenStudy, record: TrialRecord) -> dict[int, float]:
    """Return length -> metric for the trial and its looks; each is at the end of its schedule."""
    halving = study.config.halving_for(study.total_steps)
    # a stopped look left the value at the rung itself
    looks = [
        pause
        for pause in record.pauses
        if 0 < optimizer_steps(halving.look_steps(pause.steps), pause.share) <= pause.look_steps
    ]
    values = {one.optimizer_steps + one.look_steps: one.value for one in looks}
    if record.outcome is not None and record.outcome.reason is StopReason.COMPLETED:
        values[record.outcome.optimizer_steps] = record.outcome.value
    return {length: value for length, value in values.items() if value is not None}


def _rate_trials(study: FrozenStudy) -> Iterator[RateTrial]:
    sign = 1.0 if study.config.mode == "min" else -1.0
    for record in study.records:
        if record.recipe is not None and record.rate is not None and len(record.recipe.optimizer.split()) == 1:
            values = {length: sign * value for length, value in _values_by_length(study, record).items()}
            yield RateTrial(record.optimizer, record.rate, values)


def _passes(study: FrozenStudy, recipe: Recipe, steps: int) -> float | None:
    """Return the number of a training's passes over the data; None if it is unknown."""
    if (epochs := _epochs(study, steps)) is not None:
        return epochs
    accumulated = study.config.trainer.get("accumulate_grad_batches", 1)
    batches = study.origin.batches
    if not batches or not isinstance(accumulated, int):
        return None
    return steps * max(recipe.accumulate_grad_batches, accumulated) / batches


def product_factor(ratio: float, passes: float | None) -> float | None:
    """Return the factor on the product of learning rate and weight decay; None if it is unknown.

    Args:
        ratio: The new length divided by the searched one.
        passes: The number of passes over the data at the searched length.

    Example:
        >>> round(product_factor(10, 0.1), 3), product_factor(10, 3.0), product_factor(10, None)
        (0.337, 1.0, None)
    """
    if passes is None:
        return None
    within_one_pass = min(1.0, passes * ratio) / min(1.0, passes)
    return float(within_one_pass**-ONE_PASS_EXPONENT)


def rate_factor(ratio: float, exponent: float) -> float:
    """Return the factor on the learning rate.

    Args:
        ratio: The new length divided by the searched one.
        exponent: The power of the length by which the rate falls.

    Example:
        >>> round(rate_factor(10, 0.15), 3), rate_factor(100, 1.0), rate_factor(100, -1.0)
        (0.708, 0.3333333333333333, 3.0)
    """
    return float(min(MOST_MOVE, max(1 / MOST_MOVE, ratio**-exponent)))


def move_recipe(
    recipe: Recipe,
    ratio: float,
    exponent: float,
    passes: float | None,
    ceilings: Mapping[str, float],
    lengths: str = "",
) -> tuple[Recipe, list[str]]:
    """Return a recipe for another length, and the changes with their reasons.

    Args:
        recipe: The recipe.
        ratio: The new length divided by the searched one.
        exponent: The power of the length by which the learning rate falls.
        passes: The number of passes over the data at the searched length; None if it is unknown.
        ceilings: Optimizer -> largest rate to which its rate is raised.
        lengths: The ratio in words, such as `480/48`; empty for the number.
    """
    why = f"multiplied by ({lengths or f'{ratio:g}'})^{-exponent:.3g} = {ratio**-exponent:.2g}"
    parts, reasons = [], []
    for part in recipe.optimizer.split():
        row = find_optimizer(part.name)
        if row.is_own:
            reasons.append("own: your module's optimizer and the factors on it stay; the right change is unknown.")
        elif row.fixed_lr:
            reasons.append(f"{part.name}.lr stays: this optimizer finds its step size itself.")
        else:
            moved = _with_rate(part, row, rate_factor(ratio, exponent), ceilings.get(part.name, inf))
            reasons.append(_change(part, moved, "lr", why) + _bounded(moved, part, ratio, exponent))
            part, why_decay = _with_decay(part, moved, row, product_factor(ratio, passes))
            reasons += why_decay
        parts.append(part)
    if any(find_schedule(part.name).is_own for part in recipe.schedule.split()):
        reasons.append("schedule: own, your module's; make sure that it uses the new length.")
    else:
        reasons.append("schedule: all its parts are shares of the length and stay so; momenta and groups stay.")
    return replace(recipe, optimizer=Part.join(parts)), reasons


def _bounded(moved: Part, part: Part, ratio: float, exponent: float) -> str:
    if part.rate is None or moved.rate is None:
        return ""
    wanted = part.rate * ratio**-exponent
    return "" if abs(moved.rate / wanted - 1) < 1e-3 else f" That would be {wanted:.3g}: a move is bounded."


def _with_rate(part: Part, row: OptimizerInfo, factor: float, ceiling: float) -> Part:
    rate = part.rate
    if rate is None:
        return part
    field = next((option for option in row.options if option.name == "lr"), None)
    search = field.searchable.get("lr") if field else None
    low, high = (search.low, search.high) if isinstance(search, SearchRange) else (0.0, inf)
    # a rate that is already outside moves no further
    moved = min(max(rate * factor, min(low, rate)), max(min(high, ceiling), rate))
    return part.replaced(lr=float(f"{moved:.4g}")) if moved != rate else part


def _ceilings(study: FrozenStudy) -> dict[str, float]:
    """Return, for each optimizer with a diverged trial, the upper limit of its rate."""
    found: dict[str, float] = {}
    for record in study.records:
        if record.outcome is not None and record.outcome.has_diverged and record.rate is not None:
            below = _DIVERGED_MARGIN * record.rate
            found[record.optimizer] = min(below, found.get(record.optimizer, inf))
    return found


def _with_decay(part: Part, moved: Part, row: OptimizerInfo, product: float | None) -> tuple[Part, list[str]]:
    option = next((option for option in row.options if option.decoupled), None)
    if option is None:
        return moved, []
    decay = part.get(option.name, option.default)
    if not isinstance(decay, int | float) or decay == 0 or part.rate is None or moved.rate is None:
        return moved, []
    if product is None:
        return moved, [f"{part.name}.{option.name} stays: it is not known how often the data are passed over."]
    wanted = decay * product * part.rate / moved.rate
    search = option.searchable.get(option.name)
    if isinstance(search, SearchRange):
        wanted = min(max(wanted, min(search.low, decay)), max(search.high, decay))
    changed = moved.replaced(**{option.name: float(f"{wanted:.4g}")})
    words = "stays the same" if product == 1 else f"is multiplied by {product:.2g}"
    return changed, [_change(part, changed, option.name, f"lr x weight decay {words}")]


def _change(before: Part, after: Part, option: str, why: str) -> str:
    old, new = before.get(option), after.get(option)
    if old == new:
        return f"{before.name}.{option} stays {_number(old)}."
    return f"{before.name}.{option} {_number(old)} -> {_number(new)}: {why}."


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "at its default"


def _words_of_exponent(comparisons: list[RateComparison]) -> list[str]:
    exponent, prior = shrunk_exponent(comparisons), shrunk_exponent([])
    words = f"exponent of the rate: {exponent.mean:.2g} +- {exponent.stdev:.2g}"
    if not comparisons:
        return [f"{words}, from other studies: this one does not show how its best rate depends on the length."]
    return [
        f"{words}; before this study {prior.mean:.2g} +- {prior.stdev:.2g}.",
        *(
            f"{one.optimizer}: of {one.rates} rates the best was {one.best_at_short:.3g} at {one.short} steps and "
            f"{one.best_at_long:.3g} at {one.long}: exponent {one.exponent.mean:.2g} +- {one.exponent.stdev:.2g}."
            for one in comparisons
        ),
    ]


def _expected(study: FrozenStudy, record: TrialRecord, trained: int, steps: int) -> tuple[Forecast | None, list[str]]:
    monitor = study.config.monitor
    if study.config.mode == "max":
        return None, [f"{monitor} is maximized, and the law behind a forecast is for losses that fall."]
    points = _values_by_length(study, record)
    if trained not in points:
        return None, [f"{record.title} ended before its full length."]
    if len(points) < LEAST_POINTS:
        return None, [
            f"a forecast needs {LEAST_POINTS} lengths at the end of its schedule, and {record.title} has "
            f"{len(points)}. A search takes such looks from {RACED_FROM_STEPS} steps on, and not at all trials."
        ]
    shown = ", ".join(f"{value:.5g} at {length}" for length, value in sorted(points.items()))
    expected = forecast(points, steps)
    if expected is None or not all(map(isfinite, (expected.value, expected.low, expected.high))):
        return None, [f"{monitor} does not fall with the length: {shown}."]
    return expected, [
        f"{monitor} of {record.title} at the end of its schedule: {shown}.",
        "The forecast assumes E + A t^-a for the unchanged recipe; it leaves out the effect of the changes.",
    ]


def _words_of_passes(passes: float | None, ratio: float) -> str:
    if passes is None:
        return "It is not known how often the data are passed over."
    return f"The data are passed over {passes:.3g} times at the searched length, {passes * ratio:.3g} at the new one."


def _limits(passes: float | None, ratio: float, expected: Forecast | None) -> Iterator[str]:
    if expected is not None and (passes is None or passes * ratio > 1):
        yield "The interval does not include a metric that turns up, for example by overfitting in many passes."


def settings_of(transferred: Transferred) -> Mapping[str, object]:
    """Return everything except the recipe as plain values for JSON."""
    expected = transferred.expected
    return {
        "source": transferred.source,
        "max_steps": transferred.steps,
        "max_epochs": None if transferred.epochs is None else transferred.epochs[1],
        "searched_steps": transferred.trained_steps,
        "moved": list(transferred.moved),
        "monitor": transferred.monitor,
        "value": transferred.value,
        "expected": None if expected is None else {"value": expected.value, "low": expected.low, "high": expected.high},
        "basis": list(transferred.basis),
        "facts": list(transferred.facts),
    }
