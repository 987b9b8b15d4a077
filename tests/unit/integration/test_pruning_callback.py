from pathlib import Path

import optuna
import pytest

from opttune.errors import InputError
from opttune.integration.pruning_callback import PruningCallback, is_shared, refuse_further_trials
from opttune.storages.open_storage import quiet_optuna
from tests.support import models as m
from tests.support.ranks import run_ranks

PRUNED_TRIAL = ["PRUNED", "pruned"]
TUNED = ("adamw.lr", "adamw.weight_decay", "schedule")


@pytest.fixture(autouse=True)
def _quiet():
    with quiet_optuna():
        yield


def test_each_validation_is_reported_and_the_pruner_ends_the_training():
    study = optuna.create_study(pruner=optuna.pruners.ThresholdPruner(upper=0.0))
    pruning = PruningCallback(study.ask(), "val_loss")
    trainer = m.quiet_trainer(pruning, max_steps=40)
    trainer.fit(m.Net(), *m.loaders())
    # the fit ends with a validation, wherever the epoch stands
    assert trainer.global_step == 8
    assert pruning.message.startswith("the study's pruner ended it at step 8: val_loss ")
    assert pruning.reports == list(study.trials[0].intermediate_values.items())


def test_the_reports_of_a_copy_are_repeated_unless_the_storage_is_shared(tmp_path: Path):
    reports = [[4, 0.5], [8, 0.25]]
    study = optuna.create_study()
    pruning = PruningCallback(study.ask(), "val_loss")
    pruning.tell_again(reports)
    assert study.trials[0].intermediate_values == {4: 0.5, 8: 0.25}
    assert pruning.last_step == 8
    shared = optuna.create_study(storage=f"sqlite:///{tmp_path / 'study.db'}")
    pruning = PruningCallback(shared.ask(), "val_loss")
    pruning.tell_again(reports)
    assert (shared.trials[0].intermediate_values, pruning.last_step) == ({}, 8)


def test_which_studies_others_see(tmp_path: Path):
    assert not is_shared(optuna.create_study().ask())
    assert not is_shared(optuna.trial.FixedTrial({}))
    assert is_shared(optuna.create_study(storage=f"sqlite:///{tmp_path / 'study.db'}").ask())


def test_a_further_trial_is_refused_with_what_to_do():
    refuse_further_trials([False, False])
    with pytest.raises(InputError, match=r"process 1 has asked the shared study .*rank_zero_only.rank == 0"):
        refuse_further_trials([False, True])


def check_first_rank(found):
    states = [[state, reason] for state, *_, reason in found]
    assert states == [["COMPLETE", "completed"], PRUNED_TRIAL, ["PRUNED", "blow_up"]]
    complete, pruned, died = found
    assert list(complete[2]) == ["4", "8", "12", "16", "20", "24"]
    assert list(pruned[2]) == ["4"]
    # told a finite bad value, so that a sampler learns from it
    assert died[1] > 1e8
    assert all({"opttune.recipe", "opttune.total_steps"} <= set(trial[3]) for trial in found)
    assert [sorted(trial[4]) for trial in found] == [[*TUNED], [*TUNED], ["sgd.lr"]]


def check_steps(steps):
    first, second = steps
    assert first == second
    assert first[:2] == [24, 4]
    assert first[2] <= 10


@pytest.mark.slow
def test_under_ddp_the_first_rank_speaks_for_all(tmp_path: Path):
    ran = run_ranks(tmp_path, "ddp", "advised")
    check_first_rank(ran.found[0])
    assert [state for state, *_ in ran.found[1]] == ["COMPLETE", "PRUNED", "PRUNED"]
    # nobody samples twice
    assert [parameters for *_, parameters in ran.found[1]] == [[], [], []]
    assert ran.found[1][0][1] == ran.found[0][0][1]
    check_steps(ran.steps)
    stored = optuna.load_study(study_name="ranks", storage=f"sqlite:///{tmp_path / 'study.db'}")
    assert len(stored.trials) == 3


@pytest.mark.slow
def test_under_ddp_the_first_rank_samples_before_the_fit_too(tmp_path: Path):
    ran = run_ranks(tmp_path, "ddp", "early")
    check_first_rank(ran.found[0])
    assert [parameters for *_, parameters in ran.found[1]] == [[], [], []]
    check_steps(ran.steps)


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "what"), [("ddp_fork", "trials"), ("ddp_spawn", "shared")])
def test_ranks_that_fit_starts_tell_the_process_that_asked(tmp_path: Path, strategy: str, what: str):
    ran = run_ranks(tmp_path, strategy, what)
    check_first_rank(ran.found[0])
    check_steps(ran.steps)


@pytest.mark.slow
def test_a_shared_study_that_each_rank_asks_is_refused_by_all_of_them(tmp_path: Path):
    ran = run_ranks(tmp_path, "ddp", "shared")
    assert len(ran.found) == 2
    assert all("process 1 has asked the shared study" in found for found in ran.found)
