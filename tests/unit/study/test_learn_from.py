"""Earlier trainings of the user's own: which are used, which are not and why, and what a search makes of them."""

from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from opttune.errors import InputError
from opttune.space.model import SettledSpace
from opttune.space.parse import load_space
from opttune.space.sample import default_recipe
from opttune.space.settle import EarlierBest, with_earlier_best
from opttune.study.learn_from import EarlierRun, EarlierRuns, read_earlier_runs
from tests.support.search_models import Classifier, loaders
from tests.support.searches import make_database, run_search


def written(folder: Path, text: str) -> Path:
    path = folder / "runs.csv"
    path.write_text(text)
    return path


def test_rows_are_matched_with_the_fields_of_a_recipe_by_their_names(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "optimizer.name,optimizer.learning_rate,wd,beta2,lr_scheduler,warmup_ratio,gradient_clip_val,steps,val_loss\n"
        "AdamW,3e-3,0.1,0.98,cosine,0.1,1.0,500,0.7\n"
        "torch.optim.SGD,0.1,,,,,,,0.8\n",
    )
    adamw, sgd = read_earlier_runs(path, "val_loss", "").runs
    assert adamw == EarlierRun(
        EarlierBest(
            "adamw",
            "cosine",
            {
                "adamw.lr": 3e-3,
                "adamw.beta2": 0.98,
                "adamw.weight_decay": 0.1,
                "cosine.warmup_fraction": 0.1,
                "gradient_clip_norm": 1.0,
            },
            0.7,
        ),
        500,
    )
    assert sgd == EarlierRun(EarlierBest("sgd", "", {"sgd.lr": 0.1}, 0.8))


def test_it_is_said_what_is_not_used_and_why_a_sentence_for_each_kind(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "optimizer,lr,depth,value\nadamw,1e-3,3,0.5\nadamw,1e-2,3,nan\nadamw,1e-2,3,\nmagic,1,3,0.1\nadamw,,3,0.1\n",
    )
    name = f"the file {path}"
    assert read_earlier_runs(path, "val_loss", "").notes == (
        f"Learned from 1 training of {name}.",
        f"Not used of {name}: 2 trainings without a finite val_loss.",
        f"Not used of {name}: 1 training with an optimizer that is not in the catalog (magic).",
        f"Not used of {name}: 1 training without a learning rate (lr).",
        f"Not used of {name}: the columns depth, which are not fields of a recipe.",
    )


def run(optimizer: str, lr: float, value: float, steps: int | None = None) -> EarlierRun:
    return EarlierRun(EarlierBest(optimizer, "", {f"{optimizer}.lr": lr}, value), steps)


def test_the_best_of_each_optimizer_is_of_the_trainings_nearest_to_the_full_length() -> None:
    runs = EarlierRuns((run("adamw", 1, 0.1, 10), run("adamw", 2, 0.3), run("adamw", 3, 0.4), run("sgd", 4, 0.2)), ())
    assert [one.parameters for one in runs.best(1_000, "min")] == [{"sgd.lr": 4}, {"adamw.lr": 2}]
    assert [one.parameters for one in runs.best(1_000, "max")] == [{"adamw.lr": 3}, {"sgd.lr": 4}]
    assert EarlierRuns((run("adamw", 1, 0.1, 10),), ()).best(1_000, "min")[0].value == 0.1


def test_fields_that_a_study_holds_in_another_way_are_read_as_a_recipe_holds_them() -> None:
    space = load_space("adamw_pretrain")
    taught = EarlierBest("adamw", "", {"adamw.lr": 5e-4, "adamw.beta2": 0.97}, 0.1)
    flat = default_recipe(with_earlier_best(SettledSpace(space), [taught]).space).flat()
    assert (flat["lr"], flat["beta2"]) == (5e-4, pytest.approx(0.97))


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "It is empty"), ("lr,value\n1,2\n", r"optimizer that is not in the catalog \(none named\)")],
)
def test_a_file_of_which_nothing_can_be_used_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=f"has no usable training.*{words}"):
        read_earlier_runs(written(tmp_path, text), "val_loss", "")


def test_an_experiment_is_learned_from_and_a_search_begins_there(tmp_path: Path) -> None:
    uri = make_database(tmp_path)
    client = MlflowClient(uri)
    experiment = client.create_experiment("mine")
    for lr, value in ((0.02, 0.5), (0.05, 0.9)):
        run_id = client.create_run(experiment).info.run_id
        client.log_param(run_id, "optimizer.name", "adamw")
        client.log_param(run_id, "optimizer.lr", lr)
        client.log_metric(run_id, "val_loss", value, step=20)
        client.set_terminated(run_id)
    how: dict[str, Any] = {"data": loaders, "budget": 1, "baseline": False, "trials": 1}
    result = run_search(tmp_path, Classifier, learn_from="mine", **how)
    assert result.best_recipe.optimizer["lr"] == 0.02
    assert result.config.space_notes[0] == "Starts from the best of an earlier study: lr of adamw 0.02."
    assert "Learned from 2 trainings of the experiment 'mine'." in result.config.space_notes
    assert result.config.space_warnings == ()
    with pytest.raises(InputError, match="there is no experiment 'other'"):
        run_search(tmp_path, Classifier, learn_from="other", **how)
    with pytest.raises(InputError, match="both give the priors: give one"):
        run_search(tmp_path, Classifier, learn_from="mine", warm_start="x", **how)


def test_a_value_outside_the_space_is_named_by_its_training(tmp_path: Path) -> None:
    path = written(tmp_path, "optimizer,lr,value\nadamw,1e-3,0.5\nadamw,1e-2,nan\nadamw,2.0,0.4\n")
    best = read_earlier_runs(path, "val_loss", "").best(20, "min")
    settled = with_earlier_best(SettledSpace(load_space("adamw")), best)
    assert settled.warnings[0].startswith(f"The adamw.lr 2 of training 3 of the file {path} became ")


def test_a_logged_rate_is_no_setting_and_a_schedule_that_is_not_known_is_told(tmp_path: Path) -> None:
    (file := tmp_path / "runs.csv").write_text(
        "optimizer,lr,train/lr,scheduler,val_loss\nadamw,0.003,1e-9,CosineAnnealingLR,0.2\nadamw,0,0.1,,0.1\n"
    )
    found = read_earlier_runs(file, "val_loss", "")

    assert [one.found.parameters for one in found.runs] == [{"adamw.lr": 0.003}]
    assert found.notes[1:] == (
        f"Not used of the file {file}: 1 training without a learning rate (lr).",
        f"Not used of the file {file}: the columns train/lr, which are not fields of a recipe.",
        f"Not used of the file {file}: the schedules CosineAnnealingLR, which are not in the catalog.",
    )

    file.write_text("optimizer, lr, train/lr, val_loss\nadamw, 0.003, 1e-9, 0.2\n")
    assert [one.found.parameters for one in read_earlier_runs(file, "val_loss", "").runs] == [{"adamw.lr": 0.003}]
    file.write_text("optimizer,train/lr,val_loss\nadamw,1e-9,0.2\n")
    with pytest.raises(InputError, match=r"1 training without a learning rate \(lr\)"):
        read_earlier_runs(file, "val_loss", "")


def test_only_settings_of_the_optimizer_are_read_from_a_nested_configuration(tmp_path: Path) -> None:
    columns = {
        "model.optimizer._target_": "torch.optim.SGD",
        "model.optimizer.lr": "0.001",
        "lr": "4",
        "model.lr": "3",
        "model.net.lr": "5",
        "lr_scheduler.base_lr": "6",
        "lr_scheduler.steps": "30",
        "trainer.max_steps": "2000",
        "model.steps": "50",
        "model.optimizer.weight_decay": "0.01",
        "loss.weight_decay": "0.5",
        "model.net.momentum": "0.1",
        "Val Loss": "0.3",
    }
    for names in (list(columns), list(reversed(columns))):
        cells = [columns[name] for name in names]
        (file := tmp_path / "runs.csv").write_text(f"{','.join(names)}\n{','.join(cells)}\n")
        found = read_earlier_runs(file, "val_loss", "")

        assert [one.found.parameters for one in found.runs] == [{"sgd.lr": 0.001, "sgd.weight_decay": 0.01}]
        assert [one.steps for one in found.runs] == [2_000]
        unused = (
            "loss.weight_decay, lr_scheduler.base_lr, lr_scheduler.steps, model.net.lr, model.net.momentum, model.steps"
        )
        assert found.notes[1:] == (
            f"Not used of the file {file}: the columns {unused}, which are not fields of a recipe.",
        )


@pytest.mark.parametrize(("columns", "lr"), [("optimizer,lr,model.lr", 1e-3), ("optimizer,model.lr,trainer.lr", 7.0)])
def test_the_nearest_column_counts(tmp_path: Path, columns: str, lr: float) -> None:
    (file := tmp_path / "runs.csv").write_text(f"{columns},value\nadamw,1e-3,7,0.2\n")
    assert read_earlier_runs(file, "val_loss", "").runs[0].found.parameters == {"adamw.lr": lr}


def test_a_training_that_crashed_is_not_used(tmp_path: Path) -> None:
    (file := tmp_path / "wandb.csv").write_text(
        "Name;State;Optimizer;Learning Rate;Val_Loss\na;crashed;adamw;0,5;0,1\nb;finished;adamw;1,5e-3;0,2\n"
    )
    found = read_earlier_runs(file, "val_loss", "")

    assert [one.found.parameters for one in found.runs] == [{"adamw.lr": 0.0015}]
    assert f"Not used of the file {file}: 1 training not finished (crashed)." in found.notes


def test_trainings_of_about_the_same_length_are_compared_by_their_values(tmp_path: Path) -> None:
    runs = EarlierRuns((run("adamw", 0.1, 0.9, 2_000), run("adamw", 0.003, 0.2, 1_999), run("adamw", 1, 0.1, 400)))
    assert [one.parameters for one in runs.best(2_000, "min")] == [{"adamw.lr": 0.003}]

    (file := tmp_path / "runs.csv").write_text("optimizer,lr,max_steps,val_loss\nadamw,0.003,-1,0.2\n")
    assert read_earlier_runs(file, "val_loss", "").runs[0].steps is None
