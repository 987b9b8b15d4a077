"""Recorded trainings as curves for a replay of the guard: own, DeepOBS, AlgoPerf."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

CHOOSE = {
    "own": ("own_mnist1d_mlp_s0",),
    "deepobs": ("cifar10_3c3d", "fmnist_vae", "quadratic_deep", "svhn_wrn164"),
    "algoperf": ("criteo1tb", "fastmri", "ogbg"),
}
"""The split, fixed before anything was replayed: thresholds are chosen on these problems (of AlgoPerf the workloads
that begin so) and reported on all others."""
REPORT = {
    "own": ("own_digits_mlp_s0",),
    "deepobs": ("cifar100_allcnnc", "fmnist_2c2d", "mnist_vae", "tolstoi_char_rnn"),
    "algoperf": ("imagenet", "librispeech", "wmt"),
}
FAILED_ABOVE = 0.98
"""A run has failed whose last (AlgoPerf: best) validation is above this share of where it began, or not finite."""
GRID = 1000
"""AlgoPerf logs every 1 to 500 steps; its curves are read at this many points, which count as steps."""
_HIGHER = ("accuracy", "bleu", "ssim", "mean_average_precision")
_METRICS = ("mean_average_precision", "bleu", "ssim", "wer", "accuracy", "ctc_loss", "loss")


@dataclass(frozen=True)
class Run:
    """One recorded training.

    Attributes:
        source: `own`, `deepobs` or `algoperf`.
        problem: What was trained; runs are ranked within it.
        total_steps: The full length.
        losses: Training loss of each step from the first on, up to half of the length, gaps filled forward.
        recorded: Which of these steps were recorded, counted from 1.
        validations: Step and value of each validation within that half.
        mode: Whether the validations are to fall (`min`) or to rise (`max`).
        risen_until: The step at which the warmup ends.
        quality: Its final validation, lower is better; infinity for a broken one.
        failed: Whether nothing came of it.
        rank: Share of its problem's runs that are better.
    """

    source: str
    problem: str
    total_steps: int
    losses: tuple[float, ...]
    recorded: tuple[int, ...]
    validations: tuple[tuple[int, float], ...]
    mode: str
    risen_until: int
    quality: float
    failed: bool
    rank: float = 1.0


def load_runs(source: str, data: Path) -> list[Run]:
    """Load every run of a source, ranked."""
    runs = list({"own": _own, "deepobs": _deepobs, "algoperf": _algoperf}[source](data / source))
    ranked = []
    for problem in dict.fromkeys(run.problem for run in runs):
        own = sorted((run for run in runs if run.problem == problem), key=lambda run: run.quality)
        ranked += [replace(run, rank=place / len(own)) for place, run in enumerate(own)]
    return ranked


def is_in(run: Run, part: dict[str, tuple[str, ...]]) -> bool:
    """Return whether a run's problem belongs to a part of the split."""
    return run.problem.startswith(part[run.source])


def _own(folder: Path) -> Iterator[Run]:
    for path in sorted(folder.glob("*.npz")):
        table, settings = np.load(path), pd.read_csv(path.with_suffix(".csv"))
        for index, warmup in enumerate(settings.warmup_frac):
            losses, values = table["train_loss"][index], table["val_loss"][index]
            total = len(losses)
            final = float(values[-1])
            points = zip(table["eval_steps"].tolist(), values.tolist(), strict=True)
            yield Run(
                "own", path.stem, total, tuple(losses[: total // 2].tolist()), tuple(range(1, total // 2 + 1)),
                tuple(point for point in points if point[0] <= total // 2), "min", round(warmup * total),
                final if isfinite(final) else np.inf, not final < FAILED_ABOVE * losses[0],
            )  # fmt: skip


def _deepobs(folder: Path) -> Iterator[Run]:
    runs = pd.read_parquet(folder / "do_runs.parquet")
    epochs = dict(list(pd.read_parquet(folder / "do_epochs.parquet").groupby("run")))
    steps = dict(list(pd.read_parquet(folder / "do_steps.parquet").groupby("run")))
    for row in runs.itertuples():
        own, curve, total = epochs[row.run], steps[row.run], int(row.steps)
        losses, recorded = _filled(curve.step.to_numpy(), curve.loss.to_numpy(), total // 2)
        values = own.test_loss.to_numpy()
        # the first is of the module before its first step, which a Trainer does not validate
        each = total / row.num_epochs
        points = [(round(each * epoch), float(value)) for epoch, value in enumerate(values) if epoch > 0]
        final = float(values[-1])
        yield Run(
            "deepobs", row.problem, total, losses, recorded, tuple(p for p in points if p[0] <= total // 2), "min", 0,
            final if isfinite(final) else np.inf, not final < FAILED_ABOVE * values[0],
        )  # fmt: skip


def _algoperf(folder: Path) -> Iterator[Run]:
    runs = pd.read_parquet(folder / "ap_runs.parquet")
    evals = dict(list(pd.read_parquet(folder / "ap_eval.parquet").groupby("run")))
    steps = dict(list(pd.read_parquet(folder / "ap_steps.parquet").groupby("run")))
    longest = {run: int(own.step.max()) for run, own in evals.items()}
    runs["longest"] = runs.run.map(longest)
    length = runs.groupby("workload").longest.max()
    for row in runs.itertuples():
        # it ended before its length where it reached its target
        if row.run not in evals or row.run not in steps:
            continue
        total, own, curve = int(length[row.workload]), evals[row.run].sort_values("step"), steps[row.run]
        metric = next(name for name in _METRICS if own.get(f"validation/{name}", pd.Series(dtype=float)).notna().any())
        mode = "max" if metric in _HIGHER else "min"
        values = own[f"validation/{metric}"].to_numpy(dtype=float)
        scale = GRID / total
        losses, recorded = _filled(curve.step.to_numpy() * scale, curve.loss.to_numpy(), GRID // 2)
        # what is validated before the first step is not a Trainer's validation
        points = [(int(s * scale) + 1, float(v)) for s, v in zip(own.step, values, strict=True) if s * scale >= 1]
        gains = [value if mode == "min" else -value for value in values if isfinite(value)]
        best = min(gains, default=np.inf)
        first = gains[0] if gains else np.inf
        warmup = float(((json.loads(row.hparams) if row.hparams else None) or {}).get("warmup_factor", 0.05) or 0.0)
        yield Run(
            "algoperf", row.workload, GRID, losses, recorded, tuple(p for p in points if p[0] <= GRID // 2), mode,
            round(warmup * GRID), best, not best < first - (1 - FAILED_ABOVE) * abs(first),
        )  # fmt: skip


def _filled(steps: Any, losses: Any, most: int) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Return the loss of each step counted from 1, gaps filled forward, and which were recorded."""
    places = np.floor(steps).astype(int)
    kept = places < most
    places, losses = places[kept], losses[kept]
    if not len(places):
        return (), ()
    last = int(places[-1])
    index = np.searchsorted(places, np.arange(last + 1), side="right") - 1
    return tuple(losses[np.maximum(index, 0)].tolist()), tuple(np.unique(places + 1).tolist())
