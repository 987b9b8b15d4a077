"""Record trainings for `search.py replay`: a small CNN on digits, an MLP on MNIST-1D, and one with layer norm on the
labels of a random network, 200 steps each.

Every combination of four optimizers, thirteen learning rates, three falling schedules and two warmups is trained, with
opttune's own optimizers and schedules, from one initialisation over one order of batches: 312 trainings a table,
some minutes on one core.

    python benchmarks/record_table.py [digits_cnn mnist1d_mlp teacher_relu]

The first two are for reporting only (`search_bench/tables.py`): no threshold may be chosen on them.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from search_bench.data import Split, digits, mnist1d, teacher
from search_bench.load_tables import CACHE
from torch import nn

from opttune.build.optimizer import build_optimizer
from opttune.build.schedule import build_scheduler
from opttune.recipe import Part, Recipe

STEPS = 200
EVALUATIONS = 20
BATCH = 64
OPTIMIZERS = {"adamw": {}, "sgd": {"momentum": 0.9, "nesterov": True}, "lion": {}, "muon": {}}
RATES = tuple(float(f"{10 ** (exponent / 2):.3g}") for exponent in range(-10, 3))
"""Half decades from 1e-5 to 10."""
SCHEDULES = ("linear", "cosine", "wsd")
WARMUPS = (0.0, 0.1)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is trained.

    Attributes:
        data: Makes the data.
        model: Makes the model.
    """

    data: Callable[[], Split]
    model: Callable[[], nn.Module]


def _cnn() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(12, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(96, 32), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(40, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))


def _normed() -> nn.Module:
    return nn.Sequential(
        nn.Linear(20, 64), nn.ReLU(), nn.LayerNorm(64), nn.Linear(64, 64), nn.ReLU(), nn.LayerNorm(64), nn.Linear(64, 5)
    )


PROBLEMS = {
    "digits_cnn": Problem(digits, _cnn),
    "mnist1d_mlp": Problem(mnist1d, _mlp),
    "teacher_relu": Problem(teacher, _normed),
}


def recipes(rates: Sequence[float] = RATES) -> list[Recipe]:
    """Return every combination."""
    return [
        Recipe(Part(optimizer, {**options, "lr": lr}), Part(schedule, {"warmup_fraction": warmup}))
        for (optimizer, options), lr, schedule, warmup in product(OPTIMIZERS.items(), rates, SCHEDULES, WARMUPS)
    ]


def train(
    problem: Problem, recipe: Recipe, steps: int = STEPS, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Train once and return the validation loss at each evaluation and the training loss of each step."""
    torch.manual_seed(seed)
    inputs, targets, val_inputs, val_targets = problem.data()
    model = problem.model()
    optimizer = build_optimizer(recipe, model, steps)
    scheduler = build_scheduler(recipe.schedule, optimizer, steps)
    order = torch.cat([torch.randperm(len(inputs)) for _ in range(1 + steps * BATCH // len(inputs))])
    losses = np.full(steps, np.nan, np.float32)
    values = np.full(EVALUATIONS, np.nan, np.float32)
    for step in range(1, steps + 1):
        batch = order[(step - 1) * BATCH : step * BATCH]
        loss = nn.functional.cross_entropy(model(inputs[batch]), targets[batch])
        losses[step - 1] = loss.item()
        if not np.isfinite(losses[step - 1]):
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        if step % (steps // EVALUATIONS) == 0:
            with torch.no_grad():
                value = nn.functional.cross_entropy(model(val_inputs), val_targets)
            values[step * EVALUATIONS // steps - 1] = value.item()
    return values, losses


def record(name: str) -> None:
    """Train every combination of a problem and save the table."""
    all_recipes, started = recipes(), time.monotonic()
    curves = []
    for number, recipe in enumerate(all_recipes, start=1):
        curves.append(train(PROBLEMS[name], recipe))
        print(f"\r{name}: {number} of {len(all_recipes)} trainings, {time.monotonic() - started:.0f} s", end="")
    print()
    flat = [recipe.flat() for recipe in all_recipes]
    CACHE.mkdir(exist_ok=True)
    np.savez_compressed(
        CACHE / f"{name}.npz",
        **{key: np.array([row[key] for row in flat]) for key in ("optimizer", "lr", "schedule", "warmup_fraction")},
        eval_steps=np.arange(1, EVALUATIONS + 1) * (STEPS // EVALUATIONS),
        val_loss=np.stack([values for values, _ in curves]),
        train_loss=np.stack([losses for _, losses in curves]),
    )


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problems", nargs="*", choices=[*PROBLEMS, []], help="all unless given")
    torch.set_num_threads(1)
    for name in parser.parse_args().problems or PROBLEMS:
        record(name)


if __name__ == "__main__":
    main()
