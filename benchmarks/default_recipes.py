"""Which optimizer's default recipe is the best in a short training from scratch?

Trains the default recipe of each optimizer that `auto` may choose, at full length, on four modules of `examples/` and
two further recurrent ones, at several lengths. Prints each validation loss divided by that of AdamW's default (of
Adam's for recurrent networks): the geometric mean over the seeds, the smallest and the largest. The modules differ from
those of `search.py live`; the data are partly the same.

    python benchmarks/default_recipes.py --lengths 200 400 1000
"""

import argparse
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from math import exp, isfinite, log
from pathlib import Path
from statistics import fmean
from typing import Any

import lightning
import optuna

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import cnn
import digits
import language_model
import lstm
from search_bench.recurrent import Adding, Signals, adding_loaders, signal_loaders

from opttune import RecipeCallback
from opttune.build.module_facts import read_facts
from opttune.recipe import Recipe
from opttune.space.auto import choose_space
from opttune.space.sample import default_parameters, sample_recipe

BUDGET = 100.0
"""A budget that allows every suitable optimizer."""
MODULES: Mapping[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "digits": (digits.DigitsClassifier, digits.digits_loaders),
    "cnn": (cnn.DigitsCnn, cnn.loaders),
    "language_model": (language_model.CharacterTransformer, language_model.loaders),
    "lstm": (lstm.CharacterLstm, lstm.loaders),
    "adding": (Adding, adding_loaders),
    "signals": (Signals, signal_loaders),
}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modules", nargs="+", default=list(MODULES), choices=MODULES)
    parser.add_argument("--lengths", type=int, nargs="+", default=[200, 400], help="optimizer steps")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in options.modules:
        for steps in options.lengths:
            print(f"{name:16}{steps:5} steps  {'  '.join(_compared(name, steps, options.seeds))}", flush=True)


def _compared(name: str, steps: int, seeds: int) -> list[str]:
    recipes = default_recipes(MODULES[name][0](), steps)
    losses = {kind: [train(name, recipe, steps, seed) for seed in range(seeds)] for kind, recipe in recipes.items()}
    base = losses.get("adamw", losses.get("adam", []))
    return [f"{kind} {ratio_words(values, base)}" for kind, values in losses.items()]


def ratio_words(losses: Sequence[float], base: Sequence[float]) -> str:
    """Return the geometric mean of the losses over those of the same seeds, and the least and the largest ratio."""
    ratios = [loss / other for loss, other in zip(losses, base, strict=True)]
    mean = exp(fmean(map(log, ratios))) if all(isfinite(ratio) and ratio > 0 for ratio in ratios) else float("inf")
    return f"{mean:.3f} [{min(ratios):.3f}, {max(ratios):.3f}]"


def default_recipes(module: Any, steps: int) -> dict[str, Recipe]:
    """Return the default recipe of each optimizer that `auto` may take for a module."""
    space = choose_space(read_facts(module), steps, BUDGET).space
    plans = [default_parameters(space, index) for index in range(len(space.optimizers))]
    recipes = [sample_recipe(space, optuna.trial.FixedTrial(plan)) for plan in plans]
    return {recipe.optimizer.name: recipe for recipe in recipes}


def train(name: str, recipe: Recipe, steps: int, seed: int) -> float:
    """Return the validation loss of a recipe at the end; infinity where it is not finite."""
    lightning.seed_everything(seed, verbose=False)
    module, loaders = MODULES[name]
    trainer = lightning.Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        callbacks=[RecipeCallback(recipe)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
    )
    model, (train_loader, val_loader) = module(), loaders()
    trainer.fit(model, train_loader, val_loader)
    trainer.limit_val_batches = 1.0
    (metrics,) = trainer.validate(model, val_loader, verbose=False)
    value = float(metrics["val_loss"])
    return value if isfinite(value) else float("inf")


if __name__ == "__main__":
    main()
