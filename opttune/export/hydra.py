"""A recipe as an experiment config of a Hydra project."""

from typing import Any

from opttune.export.lightning_cli import trainer_settings
from opttune.export.use import Use
from opttune.recipe import Recipe
from opttune.yaml_text import write_yaml

_HOW = (
    "save it as experiment/best.yaml in the folder of configs, and train: python src/train.py experiment=best",
    "it needs opttune: RecipeCallback replaces the optimizer and schedule of the module",
)


def hydra_text(recipe: Recipe, use: Use) -> tuple[str, tuple[str, ...]]:
    """Return the config as YAML, and notes for the user.

    It adds a callback to those of the project, and replaces the Trainer settings that the recipe fixes.

    Args:
        recipe: The recipe.
        use: Its origin and the settings of its training.
    """
    trainer, arguments = trainer_settings(recipe, use)
    # plain values: the callback takes no config of OmegaConf
    callback = {"_target_": "opttune.RecipeCallback", "_convert_": "all", **arguments}
    config: dict[str, Any] = {
        **({} if use.seed is None else {"seed": use.seed}),
        "trainer": trainer,
        "callbacks": {"opttune": callback},
    }
    # the first line, by which Hydra places the file
    comments = ["@package _global_", *use.comments[: 2 if use.length else 1], *_HOW]
    return write_yaml(config, "\n".join(comments), in_blocks=True), (
        "the config needs opttune where it is used, for RecipeCallback.",
        "it expects the nodes trainer, callbacks and seed, as in the Lightning-Hydra template.",
    )
