"""Which learning rate and momentum suit Muon in short trainings from scratch?

Trains Muon's default recipe with other rates and momenta on modules of `examples/`. Prints each validation loss divided
by that of the customary 0.02 and 0.95: the geometric mean over the seeds, the smallest and the largest. The modules
differ from those of `search.py live`; the data are partly the same.

    python benchmarks/short_muon.py
"""

import argparse
import warnings
from dataclasses import replace
from itertools import product

from default_recipes import MODULES, default_recipes, ratio_words, train

CUSTOMARY = (0.95, 2e-2)
"""Momentum and learning rate of Muon's README."""


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modules", nargs="+", default=["digits", "cnn", "language_model"], choices=MODULES)
    parser.add_argument("--lengths", type=int, nargs="+", default=[200, 400], help="optimizer steps")
    parser.add_argument("--momenta", type=float, nargs="+", default=[0.95, 0.9])
    parser.add_argument("--rates", type=float, nargs="+", default=[2e-2, 4e-2, 8e-2])
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    others = [pair for pair in product(options.momenta, options.rates) if pair != CUSTOMARY]
    for name in options.modules:
        for steps in options.lengths:
            customary = _losses(name, steps, options.seeds, *CUSTOMARY)
            for momentum, lr in others:
                words = ratio_words(_losses(name, steps, options.seeds, momentum, lr), customary)
                print(f"{name:16}{steps:5} steps  momentum {momentum:<5g} lr {lr:<6g} {words}", flush=True)


def _losses(name: str, steps: int, seeds: int, momentum: float, lr: float) -> list[float]:
    muon = default_recipes(MODULES[name][0](), steps)["muon"]
    recipe = replace(muon, optimizer=muon.optimizer.replaced(momentum=momentum, lr=lr))
    return [train(name, recipe, steps, seed) for seed in range(seeds)]


if __name__ == "__main__":
    main()
