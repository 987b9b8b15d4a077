"""What opttune costs per training step, compared with what people use today.

Each round trains every variant once, in random order, in one process. For each variant the benchmark prints the median
time over the rounds as a multiple of plain Lightning's, with a 95% interval (2,000 bootstrap samples of the rounds) and
the range of the ratios within a round. On a busy machine, the ratios of the processor time are more reliable. If the
processor's speed changes from second to second, many short rounds are more reliable than a few long ones.

    pip install optuna-integration
    python benchmarks/overhead.py --steps 400 --rounds 7
    python benchmarks/overhead.py --steps 200 --rounds 40 --size short --only guard guard_and_tracking

Variants: plain Lightning; the guard alone; the guard, with every step's loss, learning rate and gradient norm in
MLflow; the whole work of `TrialCallback`; Optuna's pruning callback with Lightning's MLFlowLogger at its default
(every 50 steps), and at every step. MLflow writes to sqlite. What is not delivered at the end of a training is
delivered outside the measured time.
"""

import argparse
import logging
import os
import random
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import lightning
import optuna
import torch
from lightning.pytorch.loggers import MLFlowLogger
from optuna_integration import PyTorchLightningPruningCallback
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import opttune
from opttune.tracking.study_run import open_study_run
from opttune.tracking.thinning import Thinning
from opttune.tracking.training_log import step_metrics

WIDTHS = {"short": 32, "long": 700}
"""0.5 and 5 ms a step on a common processor."""


class Network(lightning.LightningModule):
    """Three layers; the width sets the cost of a step."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
        )

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = nn.functional.cross_entropy(self.layers(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", nn.functional.cross_entropy(self.layers(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


class Clock(lightning.Callback):
    """Times the training, its set-up left out."""

    wall = cpu = 0.0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._start = time.perf_counter(), time.process_time()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        wall, cpu = self._start
        self.wall, self.cpu = time.perf_counter() - wall, time.process_time() - cpu


@dataclass
class Variant:
    """What is added to the Trainer, and what is done when it has trained."""

    callbacks: list[Any]
    logger: Any = False
    log_every_n_steps: int = 50
    afterwards: Callable[[], None] = lambda: None


def plain(folder: Path, steps: int) -> Variant:
    return Variant([])


def guard(folder: Path, steps: int) -> Variant:
    return Variant([opttune.GuardCallback()])


def guard_and_tracking(folder: Path, steps: int) -> Variant:
    run = open_study_run(
        tracking_uri=f"sqlite:///{folder / 'ours.db'}", study_name="overhead", spool_dir=folder / "spool", run_id=None
    )
    trial = run.child("trial", thinning=Thinning(steps))

    def listen(records: list[Any]) -> None:
        for record in records:
            trial.log(record.step, step_metrics(record))

    return Variant([opttune.GuardCallback(listener=listen)], afterwards=run.close)


def whole_trial(folder: Path, steps: int) -> Variant:
    trial = optuna.create_study().ask()
    return Variant([opttune.TrialCallback(trial, "adamw", tracking=f"sqlite:///{folder / 'ours.db'}")])


def pruning_and_mlflow_logger(folder: Path, steps: int) -> Variant:
    callback = PyTorchLightningPruningCallback(optuna.create_study().ask(), monitor="val_loss")
    return Variant([callback], logger=MLFlowLogger(tracking_uri=f"sqlite:///{folder / 'theirs.db'}"))


def pruning_and_mlflow_logger_every_step(folder: Path, steps: int) -> Variant:
    return replace(pruning_and_mlflow_logger(folder, steps), log_every_n_steps=1)


VARIANTS = (
    plain,
    guard,
    guard_and_tracking,
    whole_trial,
    pruning_and_mlflow_logger,
    pruning_and_mlflow_logger_every_step,
)


Times = tuple[float, float]
"""Milliseconds of a step: on the wall's clock, and of the processor, threads in the background included."""


def time_training(make: Callable[[Path, int], Variant], folder: Path, width: int, steps: int, seed: int) -> Times:
    lightning.seed_everything(seed, verbose=False)
    data = TensorDataset(torch.randn(64 * 50, 64), torch.randint(10, (64 * 50,)))
    loader = DataLoader(data, batch_size=64)
    variant, clock = make(folder, steps), Clock()
    trainer = lightning.Trainer(
        max_steps=steps,
        callbacks=[*variant.callbacks, clock],
        logger=variant.logger,
        log_every_n_steps=variant.log_every_n_steps,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        accelerator="cpu",
    )
    trainer.fit(Network(width), loader, DataLoader(data, batch_size=640))
    variant.afterwards()
    return clock.wall / steps * 1000, clock.cpu / steps * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", nargs="+", choices=WIDTHS, default=list(WIDTHS), help="of a step")
    names = [make.__name__ for make in VARIANTS]
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="beside plain Lightning")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    order = random.Random(options.seed)
    variants = [make for make in VARIANTS if make is plain or make.__name__ in options.only]
    print(
        f"{options.rounds} rounds of {options.steps} steps, seed {options.seed}, load average {os.getloadavg()[0]:.1f}"
    )
    with tempfile.TemporaryDirectory() as name:
        for label, width in {size: WIDTHS[size] for size in options.size}.items():
            times: dict[str, list[Times]] = {make.__name__: [] for make in variants}
            for number in range(-1, options.rounds):  # the first round warms up
                for make in order.sample(variants, len(variants)):
                    taken = time_training(make, Path(name), width, options.steps, options.seed)
                    if number >= 0:
                        times[make.__name__].append(taken)
            report(label, times)


def report(label: str, times: dict[str, list[Times]]) -> None:
    plain = median(wall for wall, _ in times["plain"])
    print(
        f"\na {label} step (plain: {plain:.2f} ms), as a multiple of plain: wall [95%] (range), processor [95%] (range)"
    )
    for name, own in times.items():
        print(f"  {name.replace('_', ' '):38}", end="")
        for which in range(2):
            pairs = [(a[which], b[which]) for a, b in zip(own, times["plain"], strict=True)]
            low, high = interval(pairs)
            ratios = sorted(a / b for a, b in pairs)
            print(f"  {ratio(pairs):.2f} x [{low:.2f}, {high:.2f}] ({ratios[0]:.2f} .. {ratios[-1]:.2f})", end="")
        print()


def ratio(pairs: list[tuple[float, float]]) -> float:
    """Return the median of the first over the median of the second."""
    return median(a for a, _ in pairs) / median(b for _, b in pairs)


def interval(pairs: list[tuple[float, float]], draws: int = 2000) -> tuple[float, float]:
    """Return between what the ratio lies in 95% of the times that rounds are drawn again."""
    again = random.Random(0)
    ratios = sorted(ratio(again.choices(pairs, k=len(pairs))) for _ in range(draws))
    return ratios[draws // 40], ratios[-draws // 40]


if __name__ == "__main__":
    main()
