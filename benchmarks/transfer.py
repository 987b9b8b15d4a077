"""How good is the forecast of `opttune transfer`, and how does the best learning rate depend on the length?

Reads recorded trainings: language models of several lengths (`lm_schedules/`) and TaskSet's text classifiers.

1. Language models, one schedule: the loss at the longest length from those at three shorter ones.
2. The same from what a search has: looks whose rate came down in 20% of the steps, and one whole training of another
   schedule, with the same learning rate.
3. Text classifiers at constant rates, whose curves are read at 10%, 35% and the end of 4,000 or 5,000 steps: no looks,
   several passes over the data, plateaus and overfitting. Not what the law is for, and no threshold was chosen on it.
4. The best learning rates of the language models at 15,000 and 50,000 steps, and what moving the rate costs.

    python benchmarks/transfer.py ../shared/data
"""

import argparse
from collections.abc import Iterator, Mapping
from math import exp, log
from pathlib import Path

import numpy as np
import pandas as pd
from search_bench.lm_schedules import Losses, language_models

from opttune.algorithms.length_law import COVERAGE, PRIOR_EXPONENT, Forecast, forecast

Case = tuple[Forecast | None, float, float]
"""A forecast, what came, and the loss at the longest length that was seen."""
LONG, SHORT = 50_000, 15_000
SEEN = (15_000, 25_000, 35_000)


def same_schedule(losses: Losses) -> Iterator[Case]:
    for by_length in losses.values():
        if set(by_length) >= {*SEEN, LONG}:
            yield forecast({at: by_length[at] for at in SEEN}, LONG), by_length[LONG], by_length[SEEN[-1]]


def looks_and_a_training(losses: Losses) -> Iterator[Case]:
    looks = {key[1]: by_length for key, by_length in losses.items() if key[0] == "ann124-0.2"}
    for (group, lr, *_), by_length in losses.items():
        if group != "ann124-0.2" and set(by_length) >= {*SEEN, LONG}:
            seen = {**{at: looks[lr][at] for at in SEEN[:-1]}, SEEN[-1]: by_length[SEEN[-1]]}
            yield forecast(seen, LONG), by_length[LONG], by_length[SEEN[-1]]


def classifiers(folder: Path, steps: int, best: int = 30) -> Iterator[Case]:
    for path in sorted(folder.glob("*.parquet")):
        table = pd.read_parquet(path)
        table = table[(table.linear_decay < 1e-6) & (table.exponential_decay < 1e-5)]
        curves = np.array(table.valid_loss.tolist())
        for row in np.argsort(np.nan_to_num(curves[:, steps // 200], nan=np.inf))[:best]:
            points = {round(share * steps / 200) * 200: 0.0 for share in (0.1, 0.35, 1.0)}
            points = {at: float(curves[row, at // 200]) for at in points}
            yield forecast(points, 10_000), float(curves[row, 50]), points[steps]


def report(name: str, cases: Iterator[Case]) -> None:
    every = list(cases)
    made = [(expected, came, last) for expected, came, last in every if expected is not None]
    errors = np.array([abs(expected.value / came - 1) for expected, came, _ in made])
    unchanged = np.mean([abs(last / came - 1) for _, came, last in made])
    held = np.mean([expected.low <= came <= expected.high for expected, came, _ in made])
    width = np.mean([(expected.high - expected.low) / came for expected, came, _ in made])
    print(
        f"{name}: {len(made)} forecasts of {len(every)}; error mean {errors.mean():.2%}, median "
        f"{np.median(errors):.2%}, largest {errors.max():.2%} (no change: {unchanged:.2%}); "
        f"{COVERAGE:.0%} interval of width {width:.2%} held {held:.0%}"
    )


def best_rate(losses: Mapping[float, float]) -> float:
    """Return the vertex of the parabola through the losses of three rates, over the logarithm of the rate."""
    a, b, _ = np.polyfit([log(lr) for lr in losses], list(losses.values()), 2)
    return exp(-b / (2 * a))


def rates(losses: Losses) -> None:
    exponents, costs = {}, {0.0: [], PRIOR_EXPONENT.mean: [], 0.32: []}
    for group in sorted({key[0] for key in losses if str(key[0]).startswith("ann124")}):
        by_rate = {key[1]: one for key, one in losses.items() if key[0] == group and {SHORT, LONG} <= set(one)}
        early, late = (best_rate({lr: one[at] for lr, one in by_rate.items()}) for at in (SHORT, LONG))
        exponents[group] = log(early / late) / log(LONG / SHORT)
        law = np.poly1d(np.polyfit([log(lr) for lr in by_rate], [one[LONG] for one in by_rate.values()], 2))
        for exponent, found in costs.items():
            found.append(law(log(early) - exponent * log(LONG / SHORT)) / law(log(late)) - 1)
    print("exponent of the best rate:", ", ".join(f"{group} {one:.2f}" for group, one in exponents.items()))
    for exponent, found in costs.items():
        print(f"the best rate at {SHORT} moved by {exponent:g}: {np.mean(found):.3%} above the best at {LONG}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with lm_schedules/ and taskset/")
    folder = parser.parse_args().data
    losses = language_models(folder / "lm_schedules")
    report("language models, one schedule, to 1.4x", same_schedule(losses))
    report("language models, looks and a training, to 1.4x", looks_and_a_training(losses))
    for steps in (4_000, 5_000):
        report(f"text classifiers at constant rates, to {10_000 / steps:g}x", classifiers(folder / "taskset", steps))
    rates(losses)


if __name__ == "__main__":
    main()
