"""A recipe as a second `--config` for a LightningCLI."""

from typing import Any

from opttune.catalog.lookup import find_optimizer, find_schedule
from opttune.export.use import Use
from opttune.recipe import Recipe
from opttune.yaml_text import write_yaml

_HOW = (
    "python main.py fit --config config.yaml --config THIS_FILE",
    "it needs opttune: RecipeCallback replaces the optimizer and schedule of the module or the CLI",
)


def lightning_cli_text(recipe: Recipe, use: Use) -> tuple[str, tuple[str, ...]]:
    """Return the config as YAML, and notes for the user.

    The config adds a callback to those of the first config, and replaces the Trainer settings that the recipe fixes.

    Args:
        recipe: The recipe.
        use: Its origin and the settings of its training.
    """
    trainer, arguments = trainer_settings(recipe, use)
    trainer["callbacks+"] = [{"class_path": "opttune.RecipeCallback", "init_args": arguments}]
    config = {**({} if use.seed is None else {"seed_everything": use.seed}), "trainer": trainer}
    comments = [*use.comments[: 2 if use.length else 1], *_HOW]
    notes = ("the config needs opttune where it is used, for RecipeCallback.",)
    return write_yaml(config, "\n".join(comments), in_blocks=True), notes


def trainer_settings(recipe: Recipe, use: Use) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the Trainer settings that the recipe fixes, and the arguments of its RecipeCallback."""
    arguments: dict[str, Any] = {"recipe_or_path": recipe.to_dict()}
    if find_schedule(recipe.schedule.name).follows_monitor:
        arguments |= {"monitor": use.monitor, "mode": use.mode}
    # an optimizer that bounds its steps itself needs no clipping
    clip = None if find_optimizer(recipe.optimizer.name).own_clipping else recipe.gradient_clip_norm
    fixed: dict[str, Any] = {
        "gradient_clip_val": clip,
        "gradient_clip_algorithm": "norm",
        "accumulate_grad_batches": recipe.accumulate_grad_batches,
    }
    if find_optimizer(recipe.optimizer.name).is_own and clip is None and recipe.accumulate_grad_batches == 1:
        # with the module's own optimizer, the Trainer's own settings stay
        fixed = {}
    precision = {} if recipe.precision is None else {"precision": recipe.precision}
    return {**use.length, **fixed, **precision}, arguments
