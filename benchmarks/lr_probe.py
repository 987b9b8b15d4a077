"""Would a learning-rate probe find the best rates better than the priors do?

A probe trains a copy of the model for a tenth of the length while the rate rises from the low end of its range to the
high end, and reads the best rate off the smoothed loss. Here every optimizer that `auto` would search on six small
tasks is probed, and the best rate is looked up by a sweep of full trainings. Each rule has one factor between what it
reads and what it suggests; the factor is fitted on the tasks that the search was developed on and reported on the
others. It is compared with the prior of the space, and with that prior moved by what a single sweep of the
first optimizer has shown, which is what the search learns from its trials without a probe.

    python benchmarks/lr_probe.py --out lr_probe.jsonl

Prints the distance of each suggestion from the best rate, in decades, and by what share the final loss is worse there.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import isfinite, log10
from pathlib import Path
from typing import Any

import numpy as np
import torch
from optuna.trial import FixedTrial
from search_bench.live_optuna import auto_space
from search_bench.one_training import final_loss
from search_bench.statistics import Estimate, aligned, mean
from search_bench.tasks import DEVELOP, TASKS, LiveTask

from opttune.build.optimizer import build_optimizer
from opttune.recipe import Part, Recipe
from opttune.space.model import Range
from opttune.space.sample import default_parameters, sample_recipe

PROBE_SHARE = 0.1
"""Length of a probe as a share of the full length."""
PROBE_SEEDS = (0, 1)
"""A probe is run on each, and its loss averaged, so that one batch does not decide."""
RATES_A_DECADE = 3
SMOOTHING = 0.8
"""Weight of the past in the smoothed loss."""


@dataclass(frozen=True, slots=True)
class Probed:
    """One optimizer on one task.

    Attributes:
        task: The task.
        optimizer: The optimizer.
        prior: The space's prior of the rate.
        rates: The rates of the sweep.
        values: The validation loss at the end of a full training at each; infinite where it diverged.
        ramp: The rates of the probe's steps.
        losses: The probe's training losses.
    """

    task: str
    optimizer: str
    prior: float
    rates: list[float]
    values: list[float]
    ramp: list[float]
    losses: list[float]

    @property
    def best(self) -> float:
        """The best rate of the sweep."""
        return self.rates[int(np.argmin(self.values))]

    def value_at(self, rate: float) -> float:
        """Return the loss of the sweep's nearest rate."""
        return self.values[int(np.argmin([abs(log10(rate / other)) for other in self.rates]))]

    @property
    def smoothed(self) -> np.ndarray:
        """The probe's smoothed losses, up to where they are no numbers."""
        average, found = 0.0, []
        for count, loss in enumerate(self.losses, start=1):
            if not isfinite(loss):
                break
            average = SMOOTHING * average + (1 - SMOOTHING) * loss
            found.append(average / (1 - SMOOTHING**count))
        return np.array(found)


def lowest(probed: Probed) -> float:
    """Return the rate at the lowest smoothed loss."""
    return probed.ramp[int(probed.smoothed.argmin())]


def steepest(probed: Probed) -> float:
    """Return the rate at which the smoothed loss falls fastest."""
    smoothed = probed.smoothed
    return probed.ramp[int(np.gradient(smoothed).argmin())] if len(smoothed) > 1 else probed.ramp[0]


def edge(probed: Probed) -> float:
    """Return the rate from which the smoothed loss stays above its first values."""
    smoothed = probed.smoothed
    above = np.flatnonzero(smoothed > 1.5 * smoothed[:3].mean())
    return probed.ramp[int(above[0]) if len(above) else len(smoothed) - 1]


MOVED = "prior, moved by the first optimizer's best"
RULES: Mapping[str, Callable[[Probed], float]] = {"lowest": lowest, "steepest": steepest, "edge": edge}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--out", type=Path, required=True, help="JSON lines; what the file holds is not run again")
    options = parser.parse_args()
    torch.set_num_threads(1)
    done = {(one.task, one.optimizer) for one in _read(options.out)}
    for name in options.tasks:
        space = auto_space(TASKS[name])
        for index, branch in enumerate(space.optimizers):
            if (name, branch.name) not in done:
                recipe = sample_recipe(space, FixedTrial(default_parameters(space, index)))
                found = probe_and_sweep(name, recipe, branch.get("lr"))
                with options.out.open("a") as file:
                    file.write(json.dumps(asdict(found)) + "\n")
                print(f"{name} {branch.name}: best {found.best:.3g}, prior {found.prior:.3g}", flush=True)
    print(write_report(_read(options.out)))


def _read(path: Path) -> list[Probed]:
    lines = path.read_text().splitlines() if path.exists() else []
    return [Probed(**json.loads(line)) for line in lines]


def probe_and_sweep(name: str, recipe: Recipe, field: Any) -> Probed:
    """Probe an optimizer, and train it with every rate of its range."""
    if not isinstance(field, Range):
        raise TypeError(f"{recipe.optimizer.name} has no range of learning rates")
    count = round(RATES_A_DECADE * log10(field.high / field.low)) + 1
    rates = np.geomspace(field.low, field.high, count).tolist()
    task = TASKS[name]
    values = [final_loss(task, _with_rate(recipe, rate), seed=0) for rate in rates]
    steps = round(PROBE_SHARE * task.steps)
    ramp = np.geomspace(field.low, field.high, steps)
    losses = np.mean([_ramp(task, _with_rate(recipe, field.high), ramp, seed) for seed in PROBE_SEEDS], axis=0)
    return Probed(name, recipe.optimizer.name, field.centre, rates, values, ramp.tolist(), losses.tolist())


def _with_rate(recipe: Recipe, rate: float) -> Recipe:
    return replace(recipe, optimizer=Part(recipe.optimizer.name, {**dict(recipe.optimizer.pairs), "lr": rate}))


def _ramp(task: LiveTask, recipe: Recipe, ramp: np.ndarray, seed: int) -> list[float]:
    """Train while the rate rises, and return the losses; from the first non-finite one on they are NaN."""
    torch.manual_seed(seed)
    model = task.model()
    optimizer = build_optimizer(recipe, model, len(ramp))
    full = [group["lr"] for group in optimizer.param_groups]
    losses = [float("nan")] * len(ramp)
    batches = iter(task.data()[0])
    for step, rate in enumerate(ramp):
        for group, own in zip(optimizer.param_groups, full, strict=True):
            group["lr"] = own * rate / ramp[-1]
        batch = next(batches, None)
        if batch is None:
            batches = iter(task.data()[0])
            batch = next(batches)
        loss = model.training_step(batch, step)
        losses[step] = float(loss.detach())
        if not isfinite(losses[step]):
            break
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return losses


def write_report(records: Sequence[Probed]) -> str:
    """Return the table of suggestions; the moved prior says nothing of the optimizer that moved it."""
    first = {one.task: one.optimizer for one in reversed(records)}
    report = [one for one in records if one.task not in DEVELOP]
    others = [one for one in report if one.optimizer != first[one.task]]
    groups = {
        "DEVELOP": [one for one in records if one.task in DEVELOP],
        "REPORT": report,
        "REPORT, but each task's first": others,
    }
    rows = [["suggestion", *(f"decades off, {name}" for name in groups), "loss worse by, REPORT but first"]]
    for name, suggest in _suggestions(records).items():
        cells = [
            "-" if name == MOVED and own is not others else str(_mean([_decades_off(suggest, one) for one in own], own))
            for own in groups.values()
        ]
        worse = [min(10.0, one.value_at(suggest(one)) / min(one.values) - 1) for one in others]
        rows.append([name, *cells, str(_mean(worse, others))])
    by_task = ", ".join(f"{one.task} {one.optimizer} {one.best:.2g} (prior {one.prior:.2g})" for one in records)
    return f"{aligned(rows)}\n\nbest rates: {by_task}"


def _decades_off(suggest: Callable[[Probed], float], one: Probed) -> float:
    return abs(log10(suggest(one) / one.best))


def _mean(values: Sequence[float], records: Sequence[Probed]) -> Estimate:
    return mean(values, [one.task for one in records])


def _suggestions(records: Sequence[Probed]) -> Mapping[str, Callable[[Probed], float]]:
    found: dict[str, Callable[[Probed], float]] = {"prior": lambda one: one.prior}
    first = {one.task: one for one in reversed(records)}

    def moved(one: Probed) -> float:
        seen = first[one.task]
        return float(np.clip(one.prior * seen.best / seen.prior, one.rates[0], one.rates[-1]))

    found[MOVED] = moved
    develop = [one for one in records if one.task in DEVELOP]
    for name, rule in RULES.items():
        factor = 10 ** float(np.median([log10(one.best / rule(one)) for one in develop])) if develop else 1.0
        found[f"{name} x {factor:.2g}"] = _scaled(rule, factor)
        found[f"{name} x {factor:.2g}, halfway to the prior"] = _halfway(_scaled(rule, factor))
    return found


def _scaled(rule: Callable[[Probed], float], factor: float) -> Callable[[Probed], float]:
    return lambda one: float(np.clip(rule(one) * factor, one.rates[0], one.rates[-1]))


def _halfway(suggest: Callable[[Probed], float]) -> Callable[[Probed], float]:
    return lambda one: float(np.sqrt(suggest(one) * one.prior))


if __name__ == "__main__":
    main()
