"""How long does a search take to decide, with many trials in its study?

Fills a journal file with finished trials of a made-up training, then times how long a search takes to ask for a recipe
and to tell its outcome.

    python benchmarks/ask_tell.py --trials 1000
"""

import argparse
import math
import random
import statistics
import tempfile
import time
from pathlib import Path

import optuna

from opttune.integration.sampler import OpttuneSampler
from opttune.outcome import Outcome, StopReason
from opttune.runtime.policy import SearchPolicy, Spent
from opttune.space.auto import ModelFacts
from opttune.space.parse import load_space
from opttune.space.sample import sample_recipe
from opttune.storages.open_storage import open_storage, quiet_optuna
from opttune.storages.study_store import StudyStore
from opttune.study.config import SearchConfig
from opttune.training.inspection import ModelInspection

STEPS = 1_000
TIMED = 30


def main() -> None:
    """Print the median and the slowest of some rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1_000, help="finished trials in the study (default: 1000)")
    parser.add_argument("--space", default="wide", help="the space (default: wide)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, quiet_optuna():
        config = SearchConfig(load_space(options.space), "val_loss", "min", {"max_steps": STEPS}, "study", Path(folder))
        store = StudyStore(config.study_name, open_storage(None, config.out_dir), config.spec)
        store.study.sampler = OpttuneSampler(config.space, seed=0)
        policy = SearchPolicy(config, ModelInspection("made up", 1, STEPS, "", False, ModelFacts(parameters=1)))
        for number in range(options.trials):
            store.study.add_trial(_finished(store, config, number))
        # the first reads the study
        rounds = [_round(store, config, policy) for _ in range(TIMED + 1)]
    wall, worked = zip(*rounds[1:], strict=True)
    print(
        f"{options.trials} finished trials of {options.space}: decide, ask, sample, note and tell take "
        f"{1e3 * statistics.median(wall):.0f} ms (mean {1e3 * statistics.fmean(wall):.0f}, slowest of {TIMED} "
        f"{1e3 * max(wall):.0f}; of the processor {1e3 * statistics.fmean(worked):.0f}); "
        f"the first {1e3 * rounds[0][0]:.0f} ms"
    )


def _finished(store: StudyStore, config: SearchConfig, number: int) -> optuna.trial.FrozenTrial:
    """Return a trial of a random recipe that is as good as its learning rate is near to a hidden best."""
    asked = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=number)).ask()
    recipe = sample_recipe(config.space, asked)
    value = _value(float(recipe.optimizer["lr"]), number)  # type: ignore[arg-type]
    outcome = Outcome(StopReason.COMPLETED, value, STEPS, STEPS, 1.0)
    attributes = {"opttune.recipe": recipe.to_dict(), "opttune.outcome": outcome.to_dict(), "opttune.steps_spent": 0}
    return optuna.trial.create_trial(
        params=asked.params, distributions=asked.distributions, value=value, user_attrs=attributes
    )


def _value(lr: float, number: int) -> float:
    return math.log10(lr / 1e-2) ** 2 + random.Random(number).random()


def _round(store: StudyStore, config: SearchConfig, policy: SearchPolicy) -> tuple[float, float]:
    started, worked = time.perf_counter(), time.process_time()
    with store.batch():
        policy.next_action(store.records(), store.runs(), Spent(0))
        trial = store.trials.ask()
        recipe = sample_recipe(config.space, trial)
        store.trials.save_start(trial.number, recipe, "key")
        record = store.trials.record(trial.number)
    value = _value(float(recipe.optimizer["lr"]), trial.number)  # type: ignore[arg-type]
    outcome = Outcome(StopReason.COMPLETED, value, STEPS, STEPS, 1.0)
    with store.batch():
        store.save_outcome(record, outcome)
        store.trials.tell(trial.number, outcome)
    return time.perf_counter() - started, time.process_time() - worked


if __name__ == "__main__":
    main()
