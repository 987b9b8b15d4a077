"""What do `OpttunePruner` and Optuna's `MedianPruner` catch, kill and save on recorded runs?

Each group of recorded runs (DeepOBS: the learning rates of a problem's optimizer; AlgoPerf: a submission on a
workload) is replayed in random orders, one run after the other, as trials of real Optuna studies: every pruner sees
the same runs in the same orders. Steps are shares of the full length (AlgoPerf: of the time that a run may take).

- bad half caught: pruned runs among the group's worse half;
- top tenth, top quarter killed: pruned runs among the group's best, with the one-sided upper 95% bound of Clopper
  and Pearson. One run is replayed once an order; the bound counts it once, and takes runs as independent, which
  those of one group are not quite. AlgoPerf's groups are five settings with five seeds each: their best tenth is
  partly chance.
- steps saved: of the steps that all the runs took.

    python benchmarks/pruner.py ../shared/data
"""

import argparse
import json
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from scipy.stats import beta

from opttune.integration.pruner import OpttunePruner

LENGTH = 1_000
"""Steps that a full length counts, in each study."""
LEAST_RUNS, REPORTS = 20, 50
HIGHER_IS_BETTER = ("accuracy", "bleu", "ssim", "mean_average_precision")
METRICS = {
    "criteo1tb": "loss",
    "fastmri": "ssim",
    "imagenet": "accuracy",
    "librispeech": "wer",
    "ogbg": "mean_average_precision",
    "wmt": "bleu",
}

Pruners = dict[str, Callable[[], optuna.pruners.BasePruner]]
PRUNERS: Pruners = {
    "OpttunePruner": lambda: OpttunePruner(total_steps=LENGTH),
    "MedianPruner": optuna.pruners.MedianPruner,
    "MedianPruner, warmup 10%": lambda: optuna.pruners.MedianPruner(n_warmup_steps=LENGTH // 10),
}


@dataclass(frozen=True)
class Run:
    """A recorded run.

    Attributes:
        group: With which others it is compared.
        reports: Steps, of LENGTH, and values, the smaller the better.
        score: How it ended, the smaller the better.
        warmup: Share of the length.
    """

    group: str
    reports: tuple[tuple[int, float], ...]
    score: float
    warmup: float = 0.0


def thinned(steps: Iterable[float], values: Iterable[float]) -> tuple[tuple[int, float], ...]:
    """Return the first report within each of REPORTS equal parts of the length."""
    kept: dict[int, tuple[int, float]] = {}
    for step, value in zip(steps, values, strict=True):
        kept.setdefault(int(step * REPORTS), (round(step * LENGTH), float(value)))
    return tuple(dict(kept.values()).items())


def read_deepobs(folder: Path) -> list[Run]:
    """Return the learning-rate sweeps: test losses, and how they end."""
    table = pd.read_parquet(folder / "do_epochs.parquet").merge(pd.read_parquet(folder / "do_runs.parquet"), on="run")
    runs = []
    for _, rows in table[table.epoch > 0].sort_values("epoch").groupby("run"):
        first = rows.iloc[0]
        end = float(rows.test_loss.iloc[-1])
        reports = thinned(rows.epoch / rows.num_epochs, rows.test_loss)
        runs.append(Run(f"{first.problem} {first.optimizer}", reports, end if np.isfinite(end) else np.inf))
    return runs


def read_algoperf(folder: Path) -> list[Run]:
    """Return the runs of the competition: those that hit the target by their time, then the rest by their value."""
    table = pd.read_parquet(folder / "ap_eval.parquet").merge(pd.read_parquet(folder / "ap_runs.parquet"), on="run")
    table = table.sort_values(["run", "step"])
    runs = []
    for (version, rules, workload), rows in table.groupby(["version", "ruleset", "workload"]):
        metric = next(metric for name, metric in METRICS.items() if workload.startswith(name))
        sign = -1 if metric in HIGHER_IS_BETTER else 1
        rows = rows.assign(value=sign * rows[f"validation/{metric}"], share=rows.time / rows.time.max())
        ends = rows.groupby("run").agg(share=("share", "max"), best=("value", "min"))
        early = ends[ends.share < 0.97]
        # the target is not in the logs: runs that stop early mostly stop just past it
        target = early.best.median() + 0.005 * abs(early.best.median()) if len(early) else -np.inf
        for run, own in rows.groupby("run"):
            share, best = ends.loc[run]
            hit = share < 0.97 and best <= target
            if share < 0.97 and not hit:
                continue  # it broke off: its final value is unknown
            warmup = float((json.loads(own.hparams.iloc[0]) or {}).get("warmup_factor", 0.0))
            score = share - 1e9 if hit else best if np.isfinite(best) else np.inf
            group = f"{version} {rules} {workload} {own.submission.iloc[0]}"
            runs.append(Run(group, thinned(own.share, own.value), score, warmup))
    return runs


def replay(run: Run, study: optuna.Study) -> int:
    """Run a recorded run as the next trial of a study; return the steps that it took, of LENGTH."""
    trial = study.ask()
    trial.set_user_attr("opttune.recipe", {"schedule": {"name": "constant", "warmup_fraction": run.warmup}})
    step = 0
    for step, value in run.reports:
        trial.report(value, step)
        # the last report ends the run: nothing is left to prune
        if step != run.reports[-1][0] and trial.should_prune():
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return step
    study.tell(trial, min(run.score, 1e9))
    return step


def measure(runs: list[Run], pruner: str, seeds: Iterable[int]) -> pd.DataFrame:
    """Return one row a run and order: its rank in its group (0 best, below 1), whether it was pruned, its steps."""
    table = pd.DataFrame({"run": runs, "group": [run.group for run in runs], "score": [run.score for run in runs]})
    rows = []
    for place, (_, group) in enumerate(table.groupby("group")):
        if len(group) < LEAST_RUNS:
            continue
        ranks = (group.score.rank(method="first") - 1) / len(group)
        for seed in seeds:
            study = optuna.create_study(pruner=PRUNERS[pruner]())
            for index in np.random.default_rng((seed, place)).permutation(len(group)):
                run = group.run.iloc[index]
                steps, full = replay(run, study), run.reports[-1][0]
                rows.append((ranks.iloc[index], steps < full, steps, full))
    return pd.DataFrame(rows, columns=["rank", "pruned", "steps", "full"])


def share_pruned(rows: pd.DataFrame, orders: int) -> str:
    """Return the share of pruned runs, and its upper bound where each run counts once."""
    count, rate = len(rows) / orders, rows.pruned.mean()
    upper = beta.ppf(0.95, rate * count + 1, count - rate * count) if rate < 1 else 1.0
    return f"{rate:6.1%} (<= {upper:5.1%}, {count:3.0f} runs)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with algoperf/ and deepobs/")
    parser.add_argument("--seeds", type=int, default=5, help="random orders, seeded 0, 1, ...")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", "All-NaN", RuntimeWarning)  # of MedianPruner
    seeds = range(options.seeds)
    for name, runs in (
        ("DeepOBS", read_deepobs(options.data / "deepobs")),
        ("AlgoPerf", read_algoperf(options.data / "algoperf")),
    ):
        print(f"{name}, orders of seeds {', '.join(map(str, seeds))}; groups of at least {LEAST_RUNS} runs")
        print(f"  {'':25} bad half caught  {'top tenth killed':28} {'top quarter killed':28} steps saved")
        for pruner in PRUNERS:
            rows = measure(runs, pruner, seeds)
            killed = [share_pruned(rows[rows["rank"] < top], len(seeds)) for top in (0.1, 0.25)]
            caught, saved = rows[rows["rank"] >= 0.5].pruned.mean(), 1 - rows.steps.sum() / rows.full.sum()
            print(f"  {pruner:25} {caught:15.1%}  {killed[0]:28} {killed[1]:28} {saved:11.1%}", flush=True)


if __name__ == "__main__":
    main()
