"""Does it pay to train the best trials of a search on a second seed before the search returns one?

A search picks the best of its trainings, and a part of what made it the best is luck: its seed. Here the best trials of
real searches are trained on further seeds. A strategy compares some of them and returns one. Its regret is the excess
of that one's mean, on seeds that the strategy has not seen, over the lowest such mean, as a share of the latter.

    python benchmarks/repeats.py run --tasks mlp cnn --seeds 0,1 --out repeats.jsonl
    python benchmarks/repeats.py report repeats.jsonl
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from zlib import crc32

import numpy as np
import torch
from search_bench.one_training import final_loss
from search_bench.statistics import aligned, mean
from search_bench.tasks import TASKS

import opttune
from opttune.storages.records import read_trial

CANDIDATES = 5
NEW_SEEDS = 6
BUDGET = 20.0


@dataclass(frozen=True, slots=True)
class Candidates:
    """The best trials of one search, and what they give on other seeds.

    Attributes:
        task: What was trained.
        seed: Of the search.
        found: The value of each trial in the search, the best first.
        again: The values of each on the new seeds.
    """

    task: str
    seed: int
    found: list[float]
    again: list[list[float]]


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("run", help="search, and train the best trials again")
    run.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    run.add_argument("--seeds", type=lambda text: [int(part) for part in text.split(",")], default=[0, 1, 2])
    run.add_argument("--out", type=Path, required=True, help="JSON lines; what the file holds is not run again")
    run.set_defaults(run=_run)
    report = commands.add_parser("report", help="show what was run")
    report.add_argument("files", nargs="+", type=Path)
    report.set_defaults(run=lambda options: print(write_report(_read(options.files))))
    options = parser.parse_args()
    options.run(options)


def _run(options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    done = {(one.task, one.seed) for one in _read([options.out])}
    for seed in options.seeds:
        for task in options.tasks:
            if (task, seed) not in done:
                with options.out.open("a") as file:
                    file.write(json.dumps(asdict(train_candidates(task, seed))) + "\n")
    print(write_report(_read([options.out])))


def _read(paths: Sequence[Path]) -> list[Candidates]:
    lines = [line for path in paths if path.exists() for line in path.read_text().splitlines()]
    return [Candidates(**json.loads(line)) for line in lines]


def train_candidates(name: str, seed: int) -> Candidates:
    """Search a task, and train the best trials on new seeds."""
    task, own_seed = TASKS[name], crc32(f"{name}/{seed}".encode()) % 2**31
    with TemporaryDirectory(prefix="opttune-repeats-") as folder:
        result = opttune.search(
            task.model,
            task.data,
            max_steps=task.steps,
            budget=BUDGET,
            seed=own_seed,
            out_dir=folder,
            tracking_uri=f"sqlite:///{folder}/mlflow.db",
            trainer={"accelerator": "cpu"},
            engine="inline",
            progress=False,
        )
        records = [read_trial(trial) for trial in result.study.trials]
    best = sorted((record.value, record.number) for record in records if record.value is not None)[:CANDIDATES]
    recipes = [records[number].recipe for _, number in best]
    again = [[final_loss(task, recipe, own_seed + 1 + k) for k in range(NEW_SEEDS)] for recipe in recipes if recipe]
    return Candidates(name, seed, [value for value, _ in best], again)


def _means(found: Candidates, top: int, repeats: int, seeds: Sequence[int]) -> list[float]:
    return [
        float(np.mean([found.found[one], *(found.again[one][seed] for seed in seeds[:repeats])])) for one in range(top)
    ]


STRATEGIES: dict[str, tuple[int, int]] = {
    "the luckiest": (1, 0),
    "top 2, one more seed": (2, 1),
    "top 3, one more seed": (3, 1),
    "top 2, two more": (2, 2),
    "top 3, two more": (3, 2),
    "top 5, one more seed": (5, 1),
}
"""Name -> number of best trials that are compared, and number of further seeds."""


def regrets(found: Candidates, top: int, repeats: int) -> Iterator[float]:
    """Yield the regret of a strategy for each choice of the seeds that it looks at."""
    table, top = np.array(found.again), min(top, len(found.again))
    for seen in combinations(range(table.shape[1]), repeats):
        rest = [seed for seed in range(table.shape[1]) if seed not in seen]
        held = table[:, rest].mean(1)
        chosen = int(np.argmin(_means(found, top, repeats, seen)))
        yield float(held[chosen] / held.min() - 1)


def write_report(records: Sequence[Candidates]) -> str:
    """Return the regret of each strategy: over all tasks, and by task."""
    tasks = list(dict.fromkeys(one.task for one in records))
    rows = [["strategy", "trainings", "mean regret [95%]", *tasks]]
    average: Callable[[Candidates, int, int], float] = lambda one, top, repeats: float(  # noqa: E731
        np.mean(list(regrets(one, top, repeats)))
    )
    for name, (top, repeats) in STRATEGIES.items():
        own = [average(one, top, repeats) for one in records]
        by_task = [np.mean([r for r, one in zip(own, records, strict=True) if one.task == task]) for task in tasks]
        estimate = mean(own, [one.task for one in records])
        rows.append([name, str(top * repeats), str(estimate), *(f"{value:.3f}" for value in by_task)])
    spread = [np.std(np.log(one.again), axis=1).mean() for one in records]
    return f"{aligned(rows)}\n\nstandard deviation of the log value over seeds, mean: {np.mean(spread):.3f}"


if __name__ == "__main__":
    main()
