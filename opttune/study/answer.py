"""`Answer`: the answer of a search, the single source for the terminal, the report, the note and `SearchResult`."""

from dataclasses import dataclass
from math import ceil

from opttune.outcome import Outcome
from opttune.recipe import OWN, Recipe
from opttune.study.config import SearchConfig, recipe_call
from opttune.study.diagnostics import edge_warnings, stability
from opttune.study.frozen_study import FrozenStudy
from opttune.study.guard_rules import silenced
from opttune.study.selection import baseline_records, luck_warning, tie_warning
from opttune.trial_record import TrialRecord
from opttune.yaml_text import write_yaml

NO_ANSWER = "No trial finished with a value."
_MOST_NAMED = 6
"""A warning names at most this many optimizers."""
_COSTLY = 1.2
"""A warning calls a best recipe costly if its step takes more than this multiple of the baseline's."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a search.

    Attributes:
        config: The configuration of the search.
        best: The best trial, or the baseline if none beats it; None if no trial finished with a value.
        baseline: The outcome of the user's own optimizer; None if it was not trained.
        replaced: That optimizer, in words.
        source: The source of the baseline's value, if it was not trained here; else empty.
        warnings: Warnings about the recipe, one sentence each.
        unstored: The names of the Trainer's arguments that are objects, which the study cannot store.
        stability: For each optimizer with diverged trials, their number and the highest stable learning rate, one
            sentence each.
    """

    config: SearchConfig
    best: TrialRecord | None
    baseline: Outcome | None
    replaced: str
    warnings: tuple[str, ...]
    stability: tuple[str, ...]
    source: str = ""
    unstored: tuple[str, ...] = ()

    @property
    def recipe(self) -> Recipe | None:
        """The best recipe; `own` if nothing beats the baseline."""
        return self.best.recipe if self.best else None

    @property
    def value(self) -> float | None:
        """The best trial's value."""
        return self.best.value if self.best else None

    @property
    def baseline_value(self) -> float | None:
        """The value of the user's own optimizer; None if it was not trained, or gave none."""
        return self.baseline.value if self.baseline else None

    @property
    def result(self) -> str:
        """The metric and its best value, in words; empty without one."""
        return "" if self.best is None else f"{self.config.monitor} {_shown(self.value)}"

    @property
    def trial(self) -> str:
        """The best trial, in words; empty without one."""
        if self.best is None:
            return ""
        return "your own optimizer" if self.best.is_baseline else self.best.title

    @property
    def baseline_words(self) -> str:
        """The baseline's value and optimizer, in words; empty if it was not trained."""
        if self.baseline is None:
            return ""
        if self.baseline_value is None:
            return f"gave no value ({self.baseline.reason}) with {self.replaced}"
        given = f", not trained here: {self.source}" if self.source else ""
        return f"{_shown(self.baseline_value)} with {self.replaced}{given}"

    @property
    def lines(self) -> list[str]:
        """The best recipe, and the baseline beside it; empty without a best one."""
        if self.best is None:
            return []
        found = [f"best {self.result} with {self.recipe} ({self.trial})"]
        return found + ([f"baseline {self.baseline_words} (your own optimizer)"] if self.baseline else [])

    @property
    def recipe_yaml(self) -> str:
        """The recipe as the text of its file; empty without one."""
        return write_yaml(self.recipe.to_dict()).rstrip() if self.recipe else ""

    def trainer_call(self, path: str = "") -> str:
        """Return a Python call that trains with the recipe as the search did; empty without one.

        Arguments of the Trainer that the study cannot store appear as their names.

        Args:
            path: The recipe file; empty for the one in the folder of the search.
        """
        if self.recipe is None:
            return ""
        full = self.best.outcome.total_steps if self.best and self.best.outcome else 0
        given = {name: value for name, value in self.config.trainer.items() if name not in self.unstored}
        known = {**self.config.length_of(self.recipe, full), **given}
        settings = [f"{name}={value!r}" for name, value in known.items()]
        settings += [f"{name}={name}" for name in self.unstored if name != "callbacks"]
        theirs = "*callbacks, " if "callbacks" in self.unstored else ""
        callback = recipe_call(self.config, self.recipe, path or str(self.config.best_recipe_path))
        return f"Trainer({', '.join(settings)}, callbacks=[{theirs}opttune.{callback}])"

    def next_steps(self, confirm: str) -> list[str]:
        """Return the lines on what to do with the answer; empty without a recipe that beats the baseline.

        Args:
            confirm: The command or the call that trains the best recipes on new seeds.
        """
        if self.best is None or self.best.is_baseline:
            return []
        return [f"train with it    {self.trainer_call()}", f"more than luck?  {confirm}"]


def answer_of(study: FrozenStudy) -> Answer:
    """Return the answer of a search."""
    best = study.best
    return Answer(
        config=study.config,
        best=best,
        baseline=study.baseline,
        replaced=study.origin.replaced,
        warnings=(
            *_interrupted(study),
            *_untried(study),
            *_not_compared(study),
            *_guard_warnings(study),
            *(_warnings(study, best) if best is not None else ()),
        ),
        stability=tuple(stability(study.records)),
        source=study.baseline_source,
        unstored=tuple(study.origin.left_out),
    )


def _interrupted(study: FrozenStudy) -> list[str]:
    """Return a sentence on interrupted trials that did not resume before the search ended."""
    numbers = [record.number for record in study.records if record.is_interrupted]
    if not numbers or study.status != "FINISHED" or any(record.is_running for record in study.records):
        return []
    is_one = len(numbers) == 1
    what = f"trial {numbers[0]} was" if is_one else f"trials {', '.join(map(str, numbers))} were"
    return [
        f"{what} interrupted, and the search reached its limits before training {'it' if is_one else 'them'} again: "
        "the same command with a larger budget (--budget), or with more time (--timeout), does so first."
    ]


def _untried(study: FrozenStudy) -> list[str]:
    """Return a sentence on the optimizers of the space without a trial, once the search has ended."""
    if study.status != "FINISHED" or not study.records:
        return []
    everything = (*study.records, *study.runs)
    tried = {one.recipe.optimizer.name if one.recipe else OWN for one in everything}
    left = [branch.name for branch in study.space.optimizers if branch.name not in tried]
    if not left:
        return []
    more = f" and {len(left) - _MOST_NAMED} more" if len(left) > _MOST_NAMED else ""
    return [
        f"{', '.join(left[:_MOST_NAMED])}{more}: not tried before the search reached its limits. A trial starts only "
        "if the rest of the budget pays for a full training. The same command with a larger budget (--budget), or with "
        "more time (--timeout) or trials (--trials), continues with the rest of the space."
    ]


def _not_compared(study: FrozenStudy) -> list[str]:
    """Return a sentence if the metric had no value at a rung in any trial, so that the rung told nothing."""
    values: dict[int, list[float | None]] = {}
    for record in study.records:
        for pause in () if record.source else record.pauses:
            values.setdefault(pause.steps, []).append(pause.value)
    empty = [str(step) for step, seen in sorted(values.items()) if all(value is None for value in seen)]
    if not empty:
        return []
    return [
        f"{study.config.monitor} had no value in the validation at step {', '.join(empty)} in any trial, so trials "
        "were not compared there, and fewer could be tried: log it in every validation."
    ]


def _guard_warnings(study: FrozenStudy) -> list[str]:
    return list(silenced(study.records, baseline_records(study.records, study.runs)).values())


def _warnings(study: FrozenStudy, best: TrialRecord) -> list[str]:
    config = study.config
    if best.is_baseline:
        given = f" Its value is that of {best.source}; it was not trained here." if best.source else ""
        return [
            f"no recipe beats the baseline ({config.monitor} {_shown(best.value)} with "
            f"{study.origin.replaced}), so best_recipe.yaml keeps its own optimizer. Give a new search "
            f"(--study NAME) a larger budget, which opens more of the space, or your own space.{given}"
        ]
    found = _without_baseline(study) if config.with_baseline else []
    found += edge_warnings(best.recipe, study.space, study.records) if best.recipe else []
    of_values = (warn(study.records, best, config.monitor, config.mode) for warn in (luck_warning, tie_warning))
    found += filter(None, [*of_values, _cost_warning(study, best)])
    return found


def _without_baseline(study: FrozenStudy) -> list[str]:
    """Return a sentence if the recipe was compared with no value of the module's own optimizer."""
    unknown = "it is unknown whether the recipe beats your own optimizer"
    if study.baseline is not None and study.baseline.value is None:
        return [f"{study.origin.replaced} gave no value, so {unknown}: {study.baseline.words}"]
    if study.baseline is not None:
        return []
    if not study.origin.has_own_optimizer:
        return [f"there is no baseline to compare with: the module has {study.origin.replaced}."]
    baseline_from = study.config.halving_for(study.total_steps).baseline_from
    budget, spent = study.config.budget, study.steps_spent / study.total_steps
    # what a search that ended has left cannot be spent on it later
    needed = max(baseline_from, ceil(10 * (spent + 1)) / 10)
    if budget < baseline_from or budget < spent + 1:
        return [
            f"a budget of {budget:g} trainings does not pay for the baseline: {unknown}. "
            f"Give {needed:g} or more to train both."
        ]
    return []


def _cost_warning(study: FrozenStudy, best: TrialRecord) -> str:
    """Return a sentence if a step of the best recipe takes clearly longer than the baseline's; else empty."""
    costs, whose = study.config.step_costs, "the baseline's"
    ratio = cost_ratio(study, best)
    if ratio is None:
        # a baseline that was not trained here was measured before the search, if the budget is in time
        ratio, whose = costs.costs.get(best.optimizer), costs.reference_words
    if ratio is None or ratio <= _COSTLY:
        return ""
    time = "" if best.step_seconds is None else f"{1000 * best.step_seconds:.3g} ms, "
    words = f"a step of trial {best.number} takes {time}{ratio:.1f} x {whose}"
    done = best.outcome.optimizer_steps if best.outcome else best.steps
    if study.config.budget_unit == "time" and done < study.total_steps:
        equal = "the same time" if costs.reference else "the baseline's time"
        return f"{words}, so it was trained for {done} of {study.total_steps} steps, in about {equal}."
    if study.config.budget_unit == "time":
        return f"{words}; when it was measured before the search, it took about as long as the baseline's."
    return f"{words}: values are for equal steps. A search in the unit time (--budget-unit time) compares equal time."


def cost_ratio(study: FrozenStudy, record: TrialRecord) -> float | None:
    """Return the seconds per step of a training divided by the baseline's; None if either was not measured."""
    measured = (one.step_seconds for one in baseline_records(study.records, study.runs) if one.step_seconds)
    of_baseline = next(measured, None)
    if of_baseline is None or record.step_seconds is None:
        return None
    return record.step_seconds / of_baseline


def _shown(value: float | None) -> str:
    return "no value" if value is None else f"{value:.5g}"
