"""Move the recipe of a search to a longer or shorter training, and forecast its value there."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from opttune.algorithms.length_law import COVERAGE, Forecast, RateComparison, compare_rates, shrunk_exponent
from opttune.catalog.lookup import find_schedule
from opttune.errors import InputError
from opttune.length_transfer.move import move_recipe
from opttune.length_transfer.new_length import count_passes, read_epochs, read_steps, refuse_far
from opttune.length_transfer.observed import expect_value, rate_ceilings, rate_trials
from opttune.outcome import Outcome, optimizer_steps
from opttune.recipe import Recipe
from opttune.study.frozen_study import FrozenStudy, load_study
from opttune.trial_record import TrialRecord
from opttune.yaml_text import write_yaml


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
    epochs = None if max_epochs is None else read_epochs(max_epochs, found, trained)
    steps = round(trained * epochs[1] / epochs[0]) if epochs else read_steps(max_steps, trained)
    refuse_far("--max-epochs" if epochs else "--max-steps", steps, trained)
    comparisons = compare_rates(list(rate_trials(found)))
    passes = count_passes(found, recipe, trained)
    exponent = shrunk_exponent(comparisons).mean
    moved, reasons = move_recipe(
        recipe, steps / trained, exponent, passes, rate_ceilings(found), lengths=f"{steps}/{trained}"
    )
    expected, basis = expect_value(found, record, trained, steps)
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
