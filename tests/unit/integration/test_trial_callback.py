"""`TrialCallback` in an objective of the user's own."""

from collections.abc import Callable, Iterator
from math import isfinite
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import optuna
import pytest
import pytorch_lightning
from lightning.pytorch.loggers import MLFlowLogger
from optuna.study import StudyDirection
from optuna.trial import TrialState

from opttune.errors import InputError, MonitorError
from opttune.integration.sampler import OpttuneSampler
from opttune.integration.trial_callback import TrialCallback
from opttune.outcome import StopReason
from opttune.storages.open_storage import quiet_optuna
from tests.support.search_models import Classifier, FailsInItsFifthStep, PlClassifier, loaders
from tests.support.searches import TINY, WILD, Tracked, make_database, make_space

SPACE = make_space(TINY)
DIVERGING = make_space(WILD.replace("[1e-3, 1e3], prior: 1e-3", "[1e3]"))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    # MLflow keeps a database open by its name: "mlflow.db" would stay that of the first test
    monkeypatch.setenv("MLFLOW_TRACKING_URI", make_database(tmp_path))
    with quiet_optuna():
        yield tmp_path


def fit(callback: TrialCallback, model: Any = None, namespace: Any = pl, **settings: Any) -> Any:
    model = model or Classifier()
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = namespace.Trainer(
        **{"max_steps": 20, "logger": False, **quiet, "callbacks": [callback], **settings}, accelerator="cpu"
    )
    trainer.fit(model, *loaders())
    return trainer


Objective = Callable[[optuna.Trial], float]


def make_objective(kept: list[TrialCallback], space: Any = SPACE, **settings: Any) -> Objective:
    own = {name: settings.pop(name) for name in ("tracking", "mode", "monitor", "guard") if name in settings}

    def objective(trial: optuna.Trial) -> float:
        pl.seed_everything(0, workers=True, verbose=False)
        callback = TrialCallback(trial, space, **own)
        kept.append(callback)
        fit(callback, **settings)
        return callback.result()

    return objective


@pytest.mark.parametrize(
    "sampler",
    [optuna.samplers.RandomSampler(seed=0), optuna.samplers.TPESampler(seed=0), OpttuneSampler(SPACE, seed=0)],
)
def test_it_trains_a_study_of_any_sampler(sampler: optuna.samplers.BaseSampler) -> None:
    kept: list[TrialCallback] = []
    study = optuna.create_study(sampler=sampler)
    study.optimize(make_objective(kept, tracking=False), n_trials=3)

    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 3
    assert [trial.value for trial in study.trials] == [
        callback.outcome.value for callback in kept if callback.outcome is not None
    ]
    assert [trial.params["adamw.lr"] for trial in study.trials] == [c.recipe.optimizer["lr"] for c in kept]


def test_the_value_is_that_of_the_validation_at_the_last_step() -> None:
    callback = TrialCallback(optuna.create_study().ask(), SPACE, tracking=False)
    trainer = fit(callback, max_steps=11)

    assert trainer.global_step == 11
    assert callback.outcome is not None
    assert callback.outcome.reason is StopReason.COMPLETED
    assert callback.result() == float(trainer.callback_metrics["val_loss"])
    assert callback.outcome.replaced == "SGD(lr=0.0001)"


def test_the_module_has_its_own_optimizer_back() -> None:
    model = Classifier()
    fit(TrialCallback(optuna.create_study().ask(), SPACE, tracking=False), model)

    assert "configure_optimizers" not in vars(model)


def test_every_validation_is_reported_with_its_step() -> None:
    study = optuna.create_study()
    fit(TrialCallback(study.ask(), SPACE, tracking=False), max_steps=20)

    assert list(study.trials[0].intermediate_values) == [8, 16, 20]


def test_several_validations_at_one_step_under_accumulation_are_reported_once() -> None:
    study = optuna.create_study()
    fit(
        TrialCallback(study.ask(), SPACE, tracking=False),
        max_steps=4,
        accumulate_grad_batches=4,
        val_check_interval=2,
        num_sanity_val_steps=0,
    )

    assert list(study.trials[0].intermediate_values) == [0, 1, 2, 3, 4]


def test_before_the_fit_there_is_no_result() -> None:
    with pytest.raises(InputError, match=r"needs trainer\.fit"):
        TrialCallback(optuna.create_study().ask(), SPACE, tracking=False).result()


def test_a_pruner_ends_a_trial_that_is_worse_than_the_median() -> None:
    kept: list[TrialCallback] = []
    study = optuna.create_study(pruner=optuna.pruners.MedianPruner(n_startup_trials=1))
    study.enqueue_trial({"adamw.lr": 0.05})
    study.enqueue_trial({"adamw.lr": 1e-3})
    study.optimize(make_objective(kept, tracking=False, max_steps=40), n_trials=2)
    pruned = kept[1].outcome

    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE, TrialState.PRUNED]
    assert pruned is not None
    assert pruned.reason is StopReason.PRUNED
    assert pruned.steps == 8
    assert "the study's pruner ended it at step 8" in pruned.message
    assert list(study.trials[1].intermediate_values) == [8]


def test_a_trial_at_its_full_length_is_not_pruned_any_more() -> None:
    study = optuna.create_study(pruner=optuna.pruners.ThresholdPruner(upper=0.0))
    study.optimize(make_objective([], tracking=False, max_steps=8), n_trials=1)

    assert study.trials[0].state is TrialState.COMPLETE


@pytest.mark.parametrize(("mode", "sign"), [("min", 1), ("max", -1)])
def test_a_diverged_trial_is_pruned_with_a_finite_bad_value(mode: str, sign: int) -> None:
    kept: list[TrialCallback] = []
    study = optuna.create_study(direction=StudyDirection[f"{mode}imize".upper()])
    study.optimize(make_objective(kept, DIVERGING, tracking=False, mode=mode, max_steps=200), n_trials=1)
    value = study.trials[0].value

    assert study.trials[0].state is TrialState.PRUNED
    assert value is not None
    assert isfinite(value)
    assert sign * value > 1e8
    assert kept[0].outcome is not None
    assert kept[0].outcome.reason.is_divergence
    assert kept[0].outcome.steps <= 10


def test_the_result_may_be_asked_for_twice() -> None:
    callback = TrialCallback(optuna.create_study().ask(), DIVERGING, tracking=False)
    fit(callback, max_steps=200)

    for _ in range(2):
        with pytest.raises(optuna.TrialPruned):
            callback.result()


def test_the_guard_can_be_left_out() -> None:
    callback = TrialCallback(optuna.create_study().ask(), DIVERGING, tracking=False, guard=False)
    fit(callback, max_steps=30)

    assert callback.outcome is not None
    assert callback.outcome.steps == 30


def test_the_users_own_parameters_are_kept_beside_the_spaces() -> None:
    study = optuna.create_study(sampler=OpttuneSampler(SPACE, seed=0))

    def objective(trial: optuna.Trial) -> float:
        callback = TrialCallback(trial, SPACE, tracking=False)
        fit(callback, max_steps=3 + trial.suggest_int("more", 0, 5))
        return callback.result()

    study.optimize(objective, n_trials=2)

    assert {"adamw.lr", "schedule", "more"} <= set(study.trials[1].params)


@pytest.mark.parametrize(("direction", "mode"), [("minimize", "max"), ("maximize", "min")])
def test_a_mode_against_the_studys_direction_is_refused(direction: str, mode: str) -> None:
    study = optuna.create_study(direction=StudyDirection[direction.upper()])

    with pytest.raises(InputError, match=rf"mode='{mode}' contradicts the study's direction \({direction}\)"):
        TrialCallback(study.ask(), SPACE, mode=mode)


def test_a_study_of_two_objectives_is_refused() -> None:
    study = optuna.create_study(directions=["minimize", "minimize"])

    with pytest.raises(InputError, match="minimize, minimize"):
        TrialCallback(study.ask(), SPACE)


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(InputError, match="mode must be"):
        TrialCallback(optuna.create_study().ask(), SPACE, mode="best")


def test_modules_of_pytorch_lightning_train_in_their_own_trainer() -> None:
    callback = TrialCallback(optuna.create_study().ask(), SPACE, tracking=False)
    fit(callback, PlClassifier(), pytorch_lightning)

    assert callback.result() < 1.5


def test_a_fixed_trial_trains_and_belongs_to_no_study(folder: Path) -> None:
    fixed = {"adamw.lr": 0.05, "adamw.weight_decay": 0.1, "schedule": "constant"}
    callback = TrialCallback(optuna.trial.FixedTrial(fixed), SPACE)
    fit(callback)

    assert callback.result() < 1.5
    assert Tracked(folder).parents == []


def test_without_a_logger_each_trial_is_a_child_of_one_parent(folder: Path) -> None:
    study = optuna.create_study(study_name="mine", pruner=optuna.pruners.MedianPruner(n_startup_trials=1))
    study.enqueue_trial({"adamw.lr": 0.05})
    study.enqueue_trial({"adamw.lr": 1e-3})
    study.optimize(make_objective([], max_steps=40), n_trials=2)
    tracked = Tracked(folder)

    assert tracked.parent.info.run_name == "mine"
    assert tracked.parent.info.status == "FINISHED"
    assert [run.info.status for run in tracked.children] == ["FINISHED", "KILLED"]
    assert tracked.children[1].data.tags["opttune.state"] == "pruned"
    assert tracked.children[0].data.params["lr"] == "0.05"
    assert [step for step, _ in tracked.curve(tracked.children[0], "train/loss")] == list(range(1, 41))
    assert [step for step, _ in tracked.curve(tracked.children[0], "val_loss")] == [8, 16, 24, 32, 40]


def test_trials_side_by_side_share_one_parent(folder: Path) -> None:
    study = optuna.create_study()

    def objective(trial: optuna.Trial) -> float:
        callback = TrialCallback(trial, SPACE)
        fit(callback, max_steps=4)
        return callback.result()

    study.optimize(objective, n_trials=4, n_jobs=2)
    tracked = Tracked(folder)

    assert tracked.parent.info.status == "FINISHED"
    assert [run.info.status for run in tracked.children] == ["FINISHED"] * 4


def test_an_error_is_the_objectives_own_and_leaves_no_run_running(folder: Path) -> None:
    study = optuna.create_study()
    with pytest.raises(RuntimeError, match="no fifth step"):
        study.optimize(make_objective([], model=FailsInItsFifthStep()), n_trials=1)
    tracked = Tracked(folder)

    assert study.trials[0].state is TrialState.FAIL
    assert [run.info.status for run in tracked.children] == ["FAILED"]
    assert tracked.parent.info.status == "FINISHED"


def test_with_an_mlflow_logger_there_is_one_run_for_a_trial(folder: Path) -> None:
    logger = MLFlowLogger("theirs", tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    study = optuna.create_study()
    study.optimize(make_objective([], logger=logger, log_every_n_steps=1), n_trials=1)
    tracked = Tracked(folder)

    assert tracked.children == []
    assert tracked.parent.info.run_id == logger.run_id
    assert tracked.parent.info.status == "FINISHED"
    assert tracked.parent.data.params["optimizer"] == "adamw"
    assert tracked.parent.data.tags["opttune.state"] == "complete"
    assert [step for step, _ in tracked.curve(tracked.parent, "train/loss")] == list(range(1, 21))
    assert len(tracked.curve(tracked.parent, "train_loss")) == 20


def test_a_diverged_trial_under_an_mlflow_logger_is_killed(folder: Path) -> None:
    logger = MLFlowLogger("theirs", tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    optuna.create_study().optimize(make_objective([], DIVERGING, logger=logger, max_steps=200), n_trials=1)
    tracked = Tracked(folder)

    assert tracked.parent.info.status == "KILLED"
    assert tracked.parent.data.tags["opttune.state"] == "diverged"


def test_a_failed_trial_under_an_mlflow_logger_holds_its_traceback(folder: Path) -> None:
    logger = MLFlowLogger("theirs", tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    with pytest.raises(RuntimeError):
        optuna.create_study().optimize(make_objective([], model=FailsInItsFifthStep(), logger=logger), n_trials=1)
    tracked = Tracked(folder)

    assert tracked.parent.info.status == "FAILED"
    assert tracked.parent.data.tags["opttune.message"] == "RuntimeError: no fifth step"
    assert "traceback.txt" in tracked.artifacts(tracked.parent)


def test_no_tracking_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").unlink()
    optuna.create_study().optimize(make_objective([], tracking=False), n_trials=1)

    assert list(tmp_path.iterdir()) == []


def test_tracking_leaves_no_folder_behind(folder: Path) -> None:
    optuna.create_study().optimize(make_objective([]), n_trials=1)

    assert {path.name for path in folder.iterdir()} == {"mlflow.db", "mlruns"}


def test_a_wrong_monitor_is_told_at_the_first_validation(folder: Path) -> None:
    callback = TrialCallback(optuna.create_study().ask(), SPACE, monitor="val_los", tracking=False)
    with pytest.raises(MonitorError, match="Did you mean 'val_loss'"):
        fit(callback, max_steps=500)
    assert callback.outcome is not None
    assert callback.outcome.steps < 500


@pytest.mark.parametrize("optimizer", ["schedule_free_adamw", "sophia"])
def test_what_an_optimizer_needs_is_done_here_too(folder: Path, optimizer: str) -> None:
    space = make_space(f"optimizer: {{{optimizer}: {{lr: 1e-3}}}}")
    callback = TrialCallback(optuna.create_study().ask(), space, tracking=False)
    fit(callback, max_steps=6)
    assert callback.result() > 0
