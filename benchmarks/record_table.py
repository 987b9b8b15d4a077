"""Record trainings for `search.py replay`, with opttune's own optimizers and schedules.

Short ones of 200 steps: a small CNN on digits, an MLP on MNIST-1D, and one with layer norm on the labels of a random
network. Every combination of four optimizers, thirteen learning rates, three falling schedules and two warmups is
trained from one initialisation over one order of batches: 312 trainings a table, some minutes on one core.

Long ones (`long_...`) of 2,000 steps: four optimizers, nine rates and two schedules, 72 trainings a table, ten minutes
or more on one core. At some shares of the length each is also looked at as a search does: a copy decays its rate to
zero, where these schedules end, within a further fifth of the steps, and is validated
(`opttune.training.decayed_look`). The average of the weights over the last fifth of the steps so far, which costs no
step, is validated beside it.

    python benchmarks/record_table.py [digits_cnn mnist1d_mlp teacher_relu long_mlp ...]

`search_bench/tables.py` says which of them are for reporting only: no threshold may be chosen on those.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from math import isfinite

import numpy as np
import torch
from numpy.typing import NDArray
from search_bench.data import Split, digits, mnist1d, python_text, surface, teacher
from search_bench.load_tables import CACHE
from search_bench.tasks import LanguageModel, LastState, token_loss
from torch import Tensor, nn

from opttune.build.optimizer import build_optimizer
from opttune.build.schedule import build_scheduler
from opttune.recipe import Part, Recipe

EVALUATIONS = 20
BATCH = 64
LOOKS = (0.02, 0.05, 0.1, 0.2, 0.35)
"""Shares of the length at which a long training is looked at."""
LOOK_SHARE = 0.2
"""Over which share of the steps so far the rate of the copy falls, and the weights are averaged."""
OPTIMIZERS = {"adamw": {}, "sgd": {"momentum": 0.9, "nesterov": True}, "lion": {}, "muon": {}}
RATES = tuple(float(f"{10 ** (exponent / 2):.3g}") for exponent in range(-10, 3))
"""Half decades from 1e-5 to 10."""
SCHEDULES = ("linear", "cosine", "wsd")
WARMUPS = (0.0, 0.1)
LONG_RATES, LONG_SCHEDULES, LONG_WARMUPS = RATES[2:11], ("cosine", "wsd"), (0.05,)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is trained.

    Attributes:
        data: Makes the data.
        model: Makes the model.
        loss: Of the model's output and the targets.
        steps: The length of a training.
    """

    data: Callable[[], Split]
    model: Callable[[], nn.Module]
    loss: Callable[[Tensor, Tensor], Tensor] = nn.functional.cross_entropy
    steps: int = 200

    @property
    def is_long(self) -> bool:
        """Whether its trainings are looked at on the way."""
        return self.steps >= 1_000

    def recipes(self) -> list[Recipe]:
        """Return every combination."""
        if self.is_long:
            return recipes(LONG_RATES, LONG_SCHEDULES, LONG_WARMUPS)
        return recipes()


def _cnn() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(12, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(96, 32), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(40, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))


def _normed_mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(40, 96),
        nn.GELU(),
        nn.LayerNorm(96),
        nn.Linear(96, 96),
        nn.GELU(),
        nn.LayerNorm(96),
        nn.Linear(96, 10),
    )


def _normed() -> nn.Module:
    return nn.Sequential(
        nn.Linear(20, 64), nn.ReLU(), nn.LayerNorm(64), nn.Linear(64, 64), nn.ReLU(), nn.LayerNorm(64), nn.Linear(64, 5)
    )


def _relu() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))


def _regression() -> nn.Module:
    return nn.Sequential(nn.Linear(20, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 5))


def _text() -> Split:
    train, val = python_text()
    return train[:, :-1], train[:, 1:], val[:, :-1], val[:, 1:]


PROBLEMS = {
    "digits_cnn": Problem(digits, _cnn),
    "mnist1d_mlp": Problem(mnist1d, _mlp),
    "teacher_relu": Problem(teacher, _normed),
    "long_mlp": Problem(digits, _relu, steps=2_000),
    "long_regression": Problem(surface, _regression, nn.functional.mse_loss, steps=2_000),
    "long_mnist1d": Problem(mnist1d, _normed_mlp, steps=2_000),
    "long_lstm": Problem(digits, LastState, steps=2_000),
    "long_text": Problem(_text, LanguageModel, token_loss, steps=2_000),
}


def recipes(
    rates: Sequence[float] = RATES, schedules: Sequence[str] = SCHEDULES, warmups: Sequence[float] = WARMUPS
) -> list[Recipe]:
    """Return every combination."""
    return [
        Recipe(Part(optimizer, {**options, "lr": lr}), Part(schedule, {"warmup_fraction": warmup}))
        for (optimizer, options), lr, schedule, warmup in product(OPTIMIZERS.items(), rates, schedules, warmups)
    ]


class Training:
    """One training of a problem: its model, optimizer and order of batches.

    Args:
        problem: What is trained.
        recipe: With what.
        seed: Of the initial weights and of the order.
    """

    def __init__(self, problem: Problem, recipe: Recipe, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self._problem = problem
        self._inputs, self._targets, self._val_inputs, self._val_targets = problem.data()
        self._model = problem.model()
        self._optimizer = build_optimizer(recipe, self._model, problem.steps)
        self._scheduler = build_scheduler(recipe.schedule, self._optimizer, problem.steps)
        epochs = 2 + problem.steps * BATCH // len(self._inputs)
        self._order = torch.cat([torch.randperm(len(self._inputs)) for _ in range(epochs)])

    def step(self, number: int, factor: float = 1.0) -> float:
        """Make a step, counted from 0, with a factor on its rate, and return the loss before it."""
        batch = self._order[number * BATCH : (number + 1) * BATCH]
        loss = self._problem.loss(self._model(self._inputs[batch]), self._targets[batch])
        if not isfinite(value := float(loss.detach())):
            return value
        self._optimizer.zero_grad()
        loss.backward()
        rates = [group["lr"] for group in self._optimizer.param_groups]
        for group in self._optimizer.param_groups:
            group["lr"] *= factor
        self._optimizer.step()
        for group, rate in zip(self._optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self._scheduler.step()
        return value

    def validate(self) -> float:
        """Return the validation loss."""
        with torch.no_grad():
            return float(self._problem.loss(self._model(self._val_inputs), self._val_targets))

    def look(self, done: int) -> float:
        """Return the validation loss of a copy whose rate comes down now."""
        parts = (self._model, self._optimizer, self._scheduler)
        states = [deepcopy(part.state_dict()) for part in parts]
        steps = max(1, round(LOOK_SHARE * done))
        losses = [self.step(done + number, (steps - number) / steps) for number in range(steps)]
        value = self.validate() if isfinite(losses[-1]) else float("nan")
        for part, state in zip(parts, states, strict=True):
            part.load_state_dict(state)
        return value

    def weights(self) -> Tensor:
        """Return a copy of all weights, as one vector."""
        return nn.utils.parameters_to_vector(self._model.parameters()).detach()

    def validate_at(self, weights: Tensor) -> float:
        """Return the validation loss at other weights."""
        trained = self.weights()
        nn.utils.vector_to_parameters(weights, self._model.parameters())
        value = self.validate()
        nn.utils.vector_to_parameters(trained, self._model.parameters())
        return value


def train(problem: Problem, recipe: Recipe, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Train once and return the validation loss at each evaluation and look, and the training loss of each step."""
    training, steps = Training(problem, recipe, seed), problem.steps
    losses = np.full(steps, np.nan, np.float32)
    values = np.full(EVALUATIONS, np.nan, np.float32)
    looks = {round(share * steps): column for column, share in enumerate(LOOKS)} if problem.is_long else {}
    looked, averaged = np.full((2, len(looks)), np.nan, np.float32)
    sums = {end: torch.zeros_like(training.weights()) for end in looks}
    for step in range(1, steps + 1):
        losses[step - 1] = training.step(step - 1)
        if not np.isfinite(losses[step - 1]):
            break
        if step % (steps // EVALUATIONS) == 0:
            values[step * EVALUATIONS // steps - 1] = training.validate()
        for end in sums:
            if end - _averaged_steps(end) < step <= end:
                sums[end] += training.weights()
        if step in looks:
            averaged[looks[step]] = training.validate_at(sums[step] / _averaged_steps(step))
            looked[looks[step]] = training.look(step)
    return {"val_loss": values, "train_loss": losses, "looks": looked, "averaged": averaged}


def _averaged_steps(end: int) -> int:
    return max(1, round(LOOK_SHARE * end))


def record(name: str) -> None:
    """Train every combination of a problem and save the table."""
    problem = PROBLEMS[name]
    all_recipes, started = problem.recipes(), time.monotonic()
    curves = []
    for number, recipe in enumerate(all_recipes, start=1):
        curves.append(train(problem, recipe))
        print(f"\r{name}: {number} of {len(all_recipes)} trainings, {time.monotonic() - started:.0f} s", end="")
    print()
    flat = [recipe.flat() for recipe in all_recipes]
    CACHE.mkdir(exist_ok=True)
    np.savez_compressed(
        CACHE / f"{name}.npz",
        **{key: np.array([row[key] for row in flat]) for key in ("optimizer", "lr", "schedule", "warmup_fraction")},
        eval_steps=np.arange(1, EVALUATIONS + 1) * (problem.steps // EVALUATIONS),
        look_steps=np.array([round(share * problem.steps) for share in LOOKS] if problem.is_long else []),
        **{key: np.stack([one[key] for one in curves]) for key in curves[0]},
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
