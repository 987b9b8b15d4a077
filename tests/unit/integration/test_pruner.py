"""`OpttunePruner`: the safe rungs."""

from collections.abc import Callable, Iterable, Mapping
from math import inf, nan
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import optuna
import pytest
from optuna.trial import TrialState

from opttune.errors import InputError
from opttune.integration.pruner import OpttunePruner
from opttune.integration.sampler import OpttuneSampler
from opttune.integration.trial_callback import TrialCallback
from opttune.storages.open_storage import quiet_optuna
from tests.support.search_models import Classifier, loaders
from tests.support.searches import TINY, WILD, make_space

ONE_RUNG = ((0.5, 0.5),)
FIVE = (1.0, 2.0, 3.0, 4.0, 5.0)
"""What five peers had at the rung."""


def make_study(direction: str = "minimize", **settings: Any) -> optuna.Study:
    with quiet_optuna():
        return optuna.create_study(
            direction=direction, pruner=OpttunePruner(**{"rungs": ONE_RUNG, "total_steps": 100, **settings})
        )


def run(study: optuna.Study, reports: Mapping[int, float], state: TrialState | None, **attributes: Any) -> optuna.Trial:
    """Add a trial that reports and, where a state is given, ends; it never asks whether it should be pruned."""
    trial = study.ask()
    for name, value in attributes.items():
        trial.set_user_attr(f"opttune.{name}", value)
    for step, value in reports.items():
        trial.report(value, step)
    if state is not None:
        study.tell(trial, 0.0 if state is TrialState.COMPLETE else None, state)
    return trial


def is_pruned(study: optuna.Study, reports: Mapping[int, float], **attributes: Any) -> bool:
    return run(study, reports, None, **attributes).should_prune()


def with_peers(study: optuna.Study, values: Iterable[float] = FIVE, step: int = 50) -> optuna.Study:
    for value in values:
        run(study, {step: value}, TrialState.COMPLETE)
    return study


@pytest.mark.parametrize(("value", "pruned"), [(0.5, False), (2.5, False), (3.5, True), (9.0, True)])
def test_the_share_to_drop_is_taken_of_all_that_reached_the_rung(value: float, pruned: bool) -> None:
    assert is_pruned(with_peers(make_study()), {50: value}) is pruned


@pytest.mark.parametrize(("value", "pruned"), [(5.5, False), (2.5, True)])
def test_where_more_is_better_the_smallest_are_dropped(value: float, pruned: bool) -> None:
    assert is_pruned(with_peers(make_study("maximize")), {50: value}) is pruned


def test_the_usual_rungs_drop_a_fifth_a_third_and_half() -> None:
    default = OpttunePruner(total_steps=100)
    assert vars(default) == vars(
        OpttunePruner(rungs=((0.1, 0.2), (0.35, 1 / 3), (0.5, 0.5)), least_peers=5, total_steps=100)
    )
    peers = [float(value) for value in range(1, 30)]
    for step, kept in ((10, 24), (35, 20), (50, 15)):
        with quiet_optuna():
            study = with_peers(optuna.create_study(pruner=default), peers, step)
        assert not is_pruned(study, {step: kept - 0.5})
        # the trial just before has reached the rung too
        run(study, {1: 0.0}, TrialState.FAIL)
        study = with_peers(optuna.create_study(pruner=default), peers, step)
        assert is_pruned(study, {step: kept + 0.5})


@pytest.mark.parametrize("value", [3.0, 5.0])
def test_a_tie_across_the_cut_is_never_pruned(value: float) -> None:
    assert not is_pruned(with_peers(make_study(), [1.0, 2.0, value, value, value]), {50: value})


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_a_value_that_is_no_number_is_the_worst(direction: str, value: float) -> None:
    assert is_pruned(with_peers(make_study(direction)), {50: value})
    assert not is_pruned(with_peers(make_study(direction), [1.0, 1.0, nan, value, inf]), {50: 2.0})


def test_trials_that_are_all_nan_are_a_tie() -> None:
    assert not is_pruned(with_peers(make_study(), [nan] * 5), {50: nan})


def test_fewer_peers_than_asked_for_prune_nothing() -> None:
    assert not is_pruned(with_peers(make_study(), FIVE[:4]), {50: 9.0})
    assert is_pruned(with_peers(make_study(least_peers=4), FIVE[:4]), {50: 9.0})


@pytest.mark.parametrize("step", [0, 49, 51, 100])
def test_between_rungs_before_them_and_at_the_end_nothing_is_pruned(step: int) -> None:
    study = with_peers(make_study())
    reports = {50: 0.0, step: 9.0} if step == 51 else {step: 9.0}

    assert not is_pruned(study, dict(sorted(reports.items())))


def test_the_first_report_beyond_a_rung_is_compared_at_its_own_share() -> None:
    study = make_study()
    for value in FIVE:
        run(study, {60: value, 70: 0.0, 80: 0.0, 100: 0.0}, TrialState.COMPLETE)

    assert is_pruned(study, {65: 9.0})
    assert not is_pruned(study, {65: 2.5})


def test_of_several_rungs_that_one_report_passes_the_last_counts() -> None:
    rungs = ((0.1, 0.2), (0.5, 0.5))

    assert is_pruned(with_peers(make_study(rungs=rungs)), {50: 4.5})
    assert is_pruned(with_peers(make_study(rungs=rungs)), {9: 4.5, 50: 4.5})
    assert not is_pruned(with_peers(make_study(rungs=rungs), step=10), {10: 4.5})


def test_one_noisy_report_neither_prunes_nor_saves() -> None:
    study = make_study()
    for value in FIVE:
        run(study, {30: value, 40: value, 50: 9.0 if value < 3 else 0.0}, TrialState.COMPLETE)

    assert not is_pruned(study, {30: 2.5, 40: 2.5, 50: 99.0})
    assert is_pruned(study, {30: 3.5, 40: 3.5, 50: 0.0})
    assert is_pruned(study, {10: 0.0, 20: 0.0, 30: 0.0, 40: 4.5, 50: 4.5})


@pytest.mark.parametrize("state", [TrialState.COMPLETE, TrialState.PRUNED, None])
def test_peers_are_complete_pruned_or_running(state: TrialState | None) -> None:
    study = make_study()
    for value in FIVE:
        run(study, {50: value}, state)

    assert is_pruned(study, {50: 4.5})


def test_failed_trials_and_those_before_the_rung_are_no_peers() -> None:
    study = with_peers(make_study(), FIVE[:4])
    run(study, {50: 5.0}, TrialState.FAIL)
    run(study, {49: 5.0}, TrialState.PRUNED)
    run(study, {49: 5.0}, None)
    run(study, {}, TrialState.PRUNED)

    assert not is_pruned(study, {50: 9.0})


def outcome(reason: str) -> dict[str, Any]:
    return {"reason": reason, "value": None, "steps": 3, "total_steps": 100, "seconds": 1.0}


@pytest.mark.parametrize("reason", ["non_finite", "blow_up"])
def test_a_trial_that_diverged_before_the_rung_counts_as_worse(reason: str) -> None:
    study = with_peers(make_study(), FIVE[:4])
    run(study, {3: 0.0}, TrialState.PRUNED, outcome=outcome(reason))

    assert is_pruned(study, {50: 3.5})
    assert not is_pruned(study, {50: 2.5})


def test_a_trial_that_diverged_later_has_what_it_had_at_the_rung() -> None:
    study = with_peers(make_study(), FIVE[:4])
    run(study, {50: 0.0, 60: 1e9}, TrialState.PRUNED, outcome=outcome("blow_up"))

    assert is_pruned(study, {50: 2.5})


def test_a_trial_that_was_pruned_at_nan_counts_as_worse() -> None:
    study = with_peers(make_study(), FIVE[:4])
    run(study, {3: nan}, TrialState.PRUNED)

    assert is_pruned(study, {50: 3.5})


def test_a_rung_within_the_trials_own_warmup_is_passed_over() -> None:
    study = with_peers(make_study(rungs=((0.1, 0.5), (0.5, 0.5))), step=10)
    warmed = {"schedule": {"name": "cosine", "warmup_fraction": 0.1}}

    assert not is_pruned(study, {10: 9.0}, recipe=warmed)
    assert not is_pruned(study, {12: 9.0}, recipe=warmed)
    assert is_pruned(study, {10: 9.0}, recipe={"schedule": {"name": "cosine", "warmup_fraction": 0.05}})
    assert is_pruned(study, {10: 9.0}, recipe={"schedule": {"name": "cosine"}})
    assert is_pruned(study, {10: 9.0}, recipe="of another kind")


@pytest.mark.parametrize(
    "schedule", [{"name": "one_cycle", "rise_fraction": 0.3}, {"name": "unknown", "warmup_fraction": 0.1}]
)
def test_a_schedule_without_a_known_warmup_passes_no_rung_over(schedule: dict[str, Any]) -> None:
    study = with_peers(make_study(rungs=((0.1, 0.5), (0.5, 0.5))), step=10)

    assert is_pruned(study, {10: 9.0}, recipe={"schedule": schedule})


def test_trials_of_other_lengths_are_compared_by_shares() -> None:
    study = make_study(total_steps=None)
    for value in FIVE:
        run(study, {500: value, 1000: 0.0}, TrialState.COMPLETE, total_steps=1000)

    assert is_pruned(study, {7: 4.5}, total_steps=14)
    assert not is_pruned(study, {7: 4.5}, total_steps=15)
    assert not is_pruned(study, {7: 2.5}, total_steps=14)


def test_a_trials_own_length_goes_before_the_pruners() -> None:
    study = with_peers(make_study(total_steps=100))

    assert not is_pruned(study, {50: 9.0}, total_steps=1000)
    assert is_pruned(study, {500: 9.0}, total_steps=1000)


def test_an_unknown_length_is_told() -> None:
    study = make_study(total_steps=None)

    with pytest.raises(InputError, match=r"full length of trial 0: give the pruner total_steps"):
        is_pruned(study, {50: 1.0})


def test_without_a_report_nothing_is_pruned() -> None:
    assert not is_pruned(with_peers(make_study()), {})


@pytest.mark.parametrize(
    "rungs",
    [(), 0.5, ((0.5,),), ((0.0, 0.5),), ((1.0, 0.5),), ((0.5, 1.0),), ((0.5, 0),), ((0.5, 0.5), (0.5, 0.6)),
     ((0.5, 0.5), (0.1, 0.2)), (("0.5", 0.5),), ((nan, 0.5),), ((10, 20),)],
)  # fmt: skip
def test_rungs_that_are_none_are_refused(rungs: Any) -> None:
    with pytest.raises(InputError, match="rungs must be pairs of a share of the full length"):
        OpttunePruner(rungs=rungs)


@pytest.mark.parametrize("name", ["least_peers", "total_steps"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "5"])
def test_counts_that_are_none_are_refused(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"{name} must be a whole number of at least 1"):
        OpttunePruner(**{name: value})


def test_an_objective_that_reports_epochs_is_pruned_at_the_rungs_only() -> None:
    def objective(trial: optuna.Trial) -> float:
        quality = (trial.number * 7) % 20
        for epoch in range(20):
            trial.report(quality + 1 / (epoch + 1), epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return float(quality)

    with quiet_optuna():
        study = optuna.create_study(pruner=OpttunePruner(total_steps=20))
        study.optimize(objective, n_trials=20)
    pruned = [trial for trial in study.trials if trial.state is TrialState.PRUNED]

    assert 5 <= len(pruned) < 15
    assert {trial.last_step for trial in pruned} <= {2, 7, 10}
    assert all(trial.number >= 5 for trial in pruned)
    assert study.best_value == 0.0


def test_a_diverged_trial_of_the_callback_is_told_to_the_pruner() -> None:
    study = make_study()
    diverging = make_space(WILD.replace("[1e-3, 1e3], prior: 1e-3", "[1e3]"))
    trial = study.ask()
    callback = TrialCallback(trial, diverging, tracking=False)
    train(callback, 200)
    with pytest.raises(optuna.TrialPruned):
        callback.result()

    assert study.trials[0].user_attrs["opttune.total_steps"] == 200
    assert study.trials[0].user_attrs["opttune.recipe"] == callback.recipe.to_dict()
    assert study.trials[0].user_attrs["opttune.outcome"]["reason"] in {"blow_up", "non_finite"}


def test_the_callback_and_a_trainer_hand_over_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    space = make_space(TINY)
    rates = (0.05, 0.04, 0.03, 0.02, 0.06, 1e-3)
    with quiet_optuna():
        study = optuna.create_study(sampler=OpttuneSampler(space, seed=0), pruner=OpttunePruner())
        for rate in rates:
            study.enqueue_trial({"adamw.lr": rate, "adamw.weight_decay": 0.0, "schedule": "constant"})
        study.optimize(make_objective(space), n_trials=len(rates))
    last = study.trials[-1]

    assert [trial.state for trial in study.trials[:-1]] == [TrialState.COMPLETE] * 5
    assert last.state is TrialState.PRUNED
    assert list(last.intermediate_values) == [8]  # the first validation beyond 10% of 40 steps
    assert last.user_attrs["opttune.total_steps"] == 40


def make_objective(space: Any) -> Callable[[optuna.Trial], float]:
    def objective(trial: optuna.Trial) -> float:
        pl.seed_everything(0, workers=True, verbose=False)
        callback = TrialCallback(trial, space, tracking=False)
        train(callback, 40)
        return callback.result()

    return objective


def train(callback: TrialCallback, max_steps: int) -> None:
    trainer = pl.Trainer(
        max_steps=max_steps,
        callbacks=[callback],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        accelerator="cpu",
    )
    trainer.fit(Classifier(), *loaders())
