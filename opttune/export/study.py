"""Find the recipe to export and write it in the requested format."""

from dataclasses import dataclass
from pathlib import Path

from opttune.errors import InputError, one_of
from opttune.export.hydra import hydra_text
from opttune.export.lightning_cli import lightning_cli_text
from opttune.export.python import python_text
from opttune.export.use import Use
from opttune.recipe import Recipe
from opttune.space.recipe_file import load_recipe
from opttune.study.config import recipe_call
from opttune.study.frozen_study import FrozenStudy, load_study
from opttune.trial_record import TrialRecord
from opttune.yaml_text import write_yaml

FORMATS = ("recipe", "lightning-cli", "hydra", "python")


@dataclass(frozen=True, slots=True)
class Exported:
    """A recipe in another format.

    Attributes:
        text: The text of the file.
        recipe: The recipe.
        notes: Notes for the user, one sentence each.
    """

    text: str
    recipe: Recipe
    notes: tuple[str, ...] = ()


def export_study(study: str, format: str, *, storage: str | None = None, trial: int | None = None) -> Exported:
    """Write the best recipe of a search in another format.

    Args:
        study: Name of a study, folder of a search, or path of a recipe file.
        format: `recipe`, `lightning-cli`, `hydra` or `python`.
        storage: Optuna storage URL.
        trial: Number of the trial whose recipe to export; None for the best.

    Raises:
        OpttuneError: There is no such study or trial, or the recipe cannot be written in that format.
    """
    if study.endswith((".yaml", ".yml")) and Path(study).is_file():
        return export_recipe(load_recipe(study), format, Use(source=study))
    found = load_study(study, storage)
    record, recipe = found.recipe_of(trial)
    return export_recipe(recipe, format, _use(found, record, recipe))


def export_recipe(recipe: Recipe, format: str, use: Use) -> Exported:
    """Write a recipe in another format.

    Args:
        recipe: The recipe.
        format: `recipe`, `lightning-cli`, `hydra` or `python`.
        use: Its origin and the settings of its training.

    Raises:
        OpttuneError: The recipe cannot be written in that format; the message names one that works.
    """
    match format:
        case "recipe":
            return Exported(write_yaml(recipe.to_dict(), "\n".join(use.comments)), recipe)
        case "lightning-cli":
            text, notes = lightning_cli_text(recipe, use)
        case "hydra":
            text, notes = hydra_text(recipe, use)
        case "python":
            text, notes = python_text(recipe, use)
        case _:
            raise InputError(f"unknown format {format!r}. {one_of(FORMATS, format)}")
    return Exported(text, recipe, notes)


def _use(study: FrozenStudy, record: TrialRecord, recipe: Recipe) -> Use:
    config = study.config
    return Use(
        source=f"{record.title} of the study {study.name}",
        value=record.value,
        monitor=config.monitor,
        mode=config.mode,
        length=config.length_of(recipe, study.total_steps),
        seed=config.seed,
        has_own_groups=study.origin.has_own_groups,
        is_manual=study.origin.is_manual,
        model_name=study.origin.model_name,
        replaced=study.origin.replaced,
        call=recipe_call(config, recipe, config.best_recipe_path.name),
    )
