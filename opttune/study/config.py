"""`SearchConfig`: the configuration of a search, as one frozen value."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from opttune.algorithms.rungs import SuccessiveHalving, halving_for
from opttune.build.schedule import Mode
from opttune.catalog.lookup import find_schedule
from opttune.errors import InputError
from opttune.guard.rules import Guard
from opttune.recipe import Recipe
from opttune.space.fit import longest_warmup
from opttune.space.model import Space
from opttune.study.selection import Reevaluation
from opttune.study.step_costs import StepCosts
from opttune.tracking.settings import Tracking

_BETTER_HIGHER = {"acc", "accuracy", "auc", "auroc", "f1", "iou", "map", "r2", "precision", "recall", "bleu", "dice"}
_SETTLED_BY_THE_TRAINER = ("accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm", "precision")


@dataclass(frozen=True, slots=True)
class SearchConfig:
    """The configuration of the search.

    Attributes:
        space: The space to search.
        monitor: The metric whose value at the end of a training counts.
        mode: `min` or `max`.
        length: `{"max_steps": n}` or `{"max_epochs": n}`: the full length of one training; a project may set both.
        study_name: Name of the study.
        out_dir: Folder of the search's files.
        budget: Cost of the whole search in full trainings.
        most_trials: Total number of trials; None for no limit.
        timeout_seconds: No training starts later than this; None for no limit.
        seed: Seed of the sampler, and of initial weights and data order of every training.
        guard: Settings of the guard; None for no guard.
        with_baseline: Whether the baseline, the module with its own optimizer, is trained once.
        trainer: Arguments of the Trainer beside the length.
        shipped_space: `auto`, or the name of a shipped space; empty for a user's own space.
        space_notes: The choices in the space and their reasons, one sentence each.
        space_warnings: Those of them that are shown in any case (`SettledSpace.warnings`).
        halving: The rungs and the shares of promoted trials; None for the defaults at this length.
        references: The command's references to `model` and `data`, or to the `project`; empty for a search called from
            Python.
        tracking: Settings for MLflow.
        reevaluation: How many of the best recipes are trained on a second seed at the end.
        engine: Where trainings run: `inline`, `local` or `ray`.
        workers: Trainings at a time.
        pauses: Whether trials pause at rungs; otherwise each trains without a pause.
        budget_unit: `steps`, or `time`: then every full training takes as long as the baseline's.
        step_costs: The cost of a step of each optimizer, if the unit is `time` and it was measured.
    """

    space: Space
    monitor: str
    mode: Mode
    length: Mapping[str, int]
    study_name: str
    out_dir: Path
    budget: float = 20.0
    most_trials: int | None = None
    timeout_seconds: float | None = None
    seed: int = 0
    guard: Guard | None = None
    with_baseline: bool = True
    trainer: Mapping[str, Any] = field(default_factory=dict)
    shipped_space: str = ""
    space_notes: tuple[str, ...] = ()
    space_warnings: tuple[str, ...] = ()
    halving: SuccessiveHalving | None = None
    references: Mapping[str, str] = field(default_factory=dict)
    tracking: Tracking = field(default_factory=Tracking)
    reevaluation: Reevaluation = field(default_factory=Reevaluation)
    engine: str = "inline"
    workers: int = 1
    pauses: bool = True
    budget_unit: str = "steps"
    step_costs: StepCosts = field(default_factory=StepCosts)

    @property
    def spec(self) -> dict[str, Any]:
        """The settings that a study must share with this search to be resumed."""
        return {
            "space": self.shipped_space or self.space.to_dict(),
            "trainer": {name: self.trainer[name] for name in _SETTLED_BY_THE_TRAINER if name in self.trainer},
            "monitor": self.monitor,
            "mode": self.mode,
            "length": dict(self.length),
            "seed": self.seed,
            **({} if self.budget_unit == "steps" else {"budget_unit": self.budget_unit}),
        }

    def length_of(self, recipe: Recipe | None, full: int) -> dict[str, int]:
        """Return the length of a recipe's training, as arguments of a Trainer.

        Args:
            recipe: The recipe.
            full: Optimizer steps of the full length.
        """
        steps = self.step_costs.steps(recipe, full)
        return dict(self.length) if steps == full else {**self.length, "max_steps": steps}

    def rungs(self, total_steps: int) -> tuple[int, ...]:
        """Return the rungs in optimizer steps, the full length last."""
        if not self.pauses:
            return (total_steps,)
        return self.halving_for(total_steps).steps(total_steps, longest_warmup(self.space))

    def halving_for(self, total_steps: int) -> SuccessiveHalving:
        """Return the rungs and the shares of promoted trials for this length."""
        return self.halving or halving_for(total_steps)

    def with_races(self, races: bool) -> "SearchConfig":
        """Return the configuration with the rungs of its study.

        Args:
            races: Whether these are the rungs of long trainings.
        """
        return self if races else replace(self, halving=self.halving or SuccessiveHalving())

    @property
    def second_seed(self) -> int:
        """The seed of the replicates of the best trials."""
        return self.seed + 1

    @property
    def mode_warning(self) -> str:
        """A sentence if the mode looks wrong, such as `min` for a metric to maximize; else empty."""
        words = set(re.split(r"[^a-z0-9]+", self.monitor.lower()))
        if self.mode == "max" or not words & _BETTER_HIGHER:
            return ""
        return f"the search minimizes {self.monitor}; if higher is better, give mode max (--mode max)."

    @property
    def best_recipe_path(self) -> Path:
        """The file of the best recipe so far."""
        return self.out_dir / "best_recipe.yaml"

    @property
    def best_checkpoint_path(self) -> Path:
        """The checkpoint of the best trial at the end of its training."""
        return self.out_dir / "best.ckpt"

    @property
    def checkpoint_folder(self) -> Path:
        """The folder of the checkpoints of paused trials."""
        return self.out_dir / "checkpoints"

    @property
    def final_folder(self) -> Path:
        """The folder of final checkpoints of trials that may still turn out to be the best."""
        return self.out_dir / "finalists"


def read_mode(mode: str) -> Mode:
    """Return a mode from its text.

    Raises:
        InputError: It is neither `min` nor `max`.
    """
    if mode == "min":
        return "min"
    if mode == "max":
        return "max"
    raise InputError(f"mode must be 'min' or 'max', got {mode!r}.")


def recipe_call(config: SearchConfig, recipe: Recipe, path: str) -> str:
    """Return a Python call that trains with a recipe file; it names the monitor for a schedule that follows it.

    Example:
        >>> from opttune.recipe import Part
        >>> from opttune.space.parse import load_space
        >>> config = SearchConfig(load_space("sgd"), "val_acc", "max", {"max_steps": 9}, "study", Path("out"))
        >>> recipe_call(config, Recipe(Part("sgd"), Part("plateau")), "best.yaml")
        "RecipeCallback('best.yaml', monitor='val_acc', mode='max')"
    """
    follows = find_schedule(recipe.schedule.name).follows_monitor
    monitored = f", monitor={config.monitor!r}, mode={config.mode!r}" if follows else ""
    return f"RecipeCallback({path!r}{monitored})"
