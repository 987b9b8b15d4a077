"""The verdict through real searches and trainings."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset

import opttune
from opttune.engines.start import start_engine
from opttune.errors import InputError, StudyError
from opttune.study.result import SearchResult
from opttune.training.attempt import Attempt
from tests.support.search_models import Classifier, FailsInItsFifthStep, loaders
from tests.support.searches import Tracked, make_space, run_search

TWINS = """
description: two recipes that differ in nothing that matters
optimizer:
  adamw:
    lr: 3e-3
    weight_decay: {choices: [0.0, 1e-9], source: test}
schedule: {constant: {}}
"""
FAR_APART = """
description: one that trains and one that hardly moves
optimizer:
  adamw: {lr: 3e-3}
  sgd: {lr: 1e-4}
schedule: {constant: {}}
"""


def search(folder: Path, space: str, **settings: Any) -> SearchResult:
    return run_search(
        folder, Classifier, data=loaders, space=make_space(space), max_steps=60, budget=5, study="s", **settings
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("confirm")


@pytest.fixture(scope="module")
def result(folder: Path) -> SearchResult:
    return search(folder, FAR_APART)


@pytest.fixture(scope="module")
def verdict(result: SearchResult, folder: Path) -> opttune.Verdict:
    return opttune.confirm(folder / "out", Classifier, loaders, top=2, seeds=4, progress=False)


@pytest.mark.slow
def test_what_is_far_better_is_said_to_be(verdict: opttune.Verdict) -> None:
    parts = verdict.sentences[0].split("; ")

    assert parts[0].startswith("adamw 3e-3 beats sgd 1e-4 by ")
    assert parts[1].startswith("adamw 3e-3 beats your optimizer by ")
    assert parts[1].endswith("(4 seeds)")


@pytest.mark.slow
def test_the_seeds_are_new_and_each_is_a_separate_training(verdict: opttune.Verdict, result: SearchResult) -> None:
    assert not {result.config.seed, result.config.second_seed} & set(verdict.seeds)
    assert verdict.seeds == (2, 3, 4, 5)
    for each in verdict.results:
        assert len(set(each.values.values())) == 4
        assert result.best_value not in each.values.values()


@pytest.mark.slow
def test_the_runs_are_under_the_searchs_marked_as_no_trials(verdict: opttune.Verdict, folder: Path) -> None:
    tracked = Tracked(folder)

    assert len(tracked.confirmations) == 16
    assert {run.data.tags["mlflow.parentRunId"] for run in tracked.confirmations} == {tracked.parent.info.run_id}
    assert verdict.run_id == tracked.parent.info.run_id
    assert len(tracked.children) == 2
    assert set(tracked.states) == {"FINISHED"}
    run = next(run for run in tracked.confirmations if run.info.run_name == "s2 adamw 3.0e-3")
    assert [step for step, _ in tracked.curve(run, "train/loss")] == list(range(1, 61))
    assert (run.data.tags["opttune.seed"], run.data.params["lr"]) == ("2", "0.003")
    assert tracked.parent.data.tags["opttune.verdict"] == verdict.sentences[0]
    assert f"### Verdict\n\n- {verdict.sentences[0]}" in tracked.parent.data.tags["mlflow.note.content"]


@pytest.mark.slow
def test_what_was_trained_is_not_trained_again_and_more_seeds_continue(
    verdict: opttune.Verdict, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[int] = []

    def noting(*given: Any) -> Any:
        engine = start_engine(*given)
        submit = engine.submit

        def note(ticket: int, attempt: Attempt, listener: Any) -> None:
            attempts.append(attempt.seed)
            submit(ticket, attempt, listener)

        monkeypatch.setattr(engine, "submit", note)
        return engine

    monkeypatch.setattr("opttune.confirming.confirm.start_engine", noting)
    again = opttune.confirm(folder / "out", Classifier, loaders, top=2, seeds=4, progress=False)
    assert (again, attempts) == (verdict, [])

    more = opttune.confirm(folder / "out", Classifier, loaders, top=1, seeds=5, progress=False)
    # in parts, from rung to rung
    assert set(attempts) == {6}
    assert [len(each.values) for each in more.results] == [5, 5, 5]


@pytest.mark.slow
def test_two_recipes_that_are_the_same_but_for_the_seed_are_not_distinguishable(tmp_path: Path) -> None:
    search(tmp_path, TWINS, baseline=False)
    verdict = opttune.confirm(tmp_path / "out", Classifier(), loaders, top=2, seeds=5, progress=False)

    assert verdict.sentences[0].split("; ")[0].endswith("are not distinguishable at this budget")
    assert "(trial " in verdict.sentences[0]
    assert verdict.sentences[-1].startswith("every training started from the weights of the given instance")


@pytest.mark.slow
def test_an_interruption_keeps_what_was_trained_and_leaves_no_run_open(tmp_path: Path) -> None:
    search(tmp_path, FAR_APART)
    trained = 0

    class Interrupted(Classifier):
        def on_train_start(self) -> None:
            nonlocal trained
            # a training that resumes at a rung starts a fit as well
            trained += self.trainer.global_step == 0
            # two single steps come before: to compare the model with the search's, and to try AdamW's default
            if trained == 8:
                raise KeyboardInterrupt

    # what a study knows of its model begins with the name of its class
    Interrupted.__name__ = Classifier.__name__
    with pytest.raises(KeyboardInterrupt):
        opttune.confirm(tmp_path / "out", Interrupted, loaders, top=1, seeds=3, progress=False)
    tracked = Tracked(tmp_path)
    assert sorted(run.info.status for run in tracked.confirmations) == ["FINISHED"] * 5 + ["KILLED"]
    assert tracked.parent.info.status == "FINISHED"

    verdict = opttune.confirm(tmp_path / "out", Classifier, loaders, top=1, seeds=3, progress=False)
    tracked = Tracked(tmp_path)
    assert [len(each.values) for each in verdict.results] == [3, 3, 3]
    # the one that was interrupted continued in its own run
    assert [run.info.status for run in tracked.confirmations] == ["FINISHED"] * 9


@pytest.mark.slow
def test_a_training_of_another_length_is_refused(tmp_path: Path) -> None:
    length = {"max_steps": None, "max_epochs": 2}
    searched = run_search(tmp_path, Classifier, data=loaders, budget=2, trials=1, baseline=False, **length)
    out = searched.config.out_dir
    with pytest.raises(StudyError, match=r"the search trained for \d+ steps, now a full training has 2"):
        opttune.confirm(out, Classifier, loaders, top=1, seeds=2, progress=False, trainer={"limit_train_batches": 1})
    with pytest.raises(InputError, match="max_epochs is the length of the search itself"):
        opttune.confirm(out, Classifier, loaders, progress=False, trainer={"max_epochs": 3})


def without_half() -> tuple[Any, Any]:
    train, val = loaders()
    return DataLoader(Subset(train.dataset, range(len(train.dataset) // 2)), batch_size=train.batch_size), val


def test_another_model_or_other_data_are_refused(tmp_path: Path) -> None:
    class Another(Classifier):
        pass

    out = run_search(tmp_path, Classifier, data=loaders, max_steps=5, budget=2, trials=1, study="one").config.out_dir
    before = (out / "study.journal").read_text()
    with pytest.raises(StudyError, match=r"'one' was made for another model \(class: Classifier in the study, Another"):
        opttune.confirm(out, Another, loaders, progress=False)
    with pytest.raises(
        StudyError, match=r"'one' was made for other data .*training samples: .*\. Confirm it with the model"
    ):
        opttune.confirm(out, Classifier, without_half, progress=False)
    assert (out / "study.journal").read_text() == before


class Lookup(Classifier):
    """Holds an embedding whose gradients AdamW does not take."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(4, 1, sparse=True)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return super().training_step(batch, batch_idx) + self.table(torch.tensor([batch_idx % 4])).square().sum()


def test_adamws_default_is_left_out_where_adamw_cannot_train_the_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = make_space("description: of sparse gradients\noptimizer: {sgd: {lr: 0.1}}\nschedule: {constant: {}}\n")
    result = run_search(tmp_path, Lookup, data=loaders, space=space, max_steps=10, budget=2)
    for _ in range(2):
        verdict = opttune.confirm(result, Lookup, loaders, top=1, seeds=2)
        assert [each.candidate.kind for each in verdict.results] == ["trial", "own"]
        assert [len(each.values) for each in verdict.results] == [2, 2]
        left_out = "AdamW's default is left out: the model has an embedding with sparse gradients, which"
        assert verdict.sentences[-1].startswith(left_out)
    assert "[4 of 4 trainings]" in capsys.readouterr().err
    # nothing is left to train, so nothing is checked again
    assert opttune.confirm(result, NeverMade, loaders, top=1, seeds=2, progress=False).seeds == verdict.seeds


class NeverMade(Lookup):
    def __init__(self) -> None:
        raise AssertionError("made")


class FailsUnderAdamW(Classifier):
    def on_train_batch_end(self, *_: Any) -> None:
        if isinstance(self.optimizers().optimizer, torch.optim.AdamW):
            raise RuntimeError("CUDA out of memory")


def test_a_failure_of_adamws_default_is_a_row_without_values(tmp_path: Path) -> None:
    space = make_space("description: plain\noptimizer: {sgd: {lr: 0.1}}\nschedule: {constant: {}}\n")
    result = run_search(tmp_path, FailsUnderAdamW, data=loaders, space=space, max_steps=10, budget=2)
    verdict = opttune.confirm(result, FailsUnderAdamW, loaders, top=1, seeds=2, progress=False)
    assert [(each.candidate.kind, each.failures) for each in verdict.results] == [
        ("trial", 0),
        ("own", 0),
        ("adamw", 2),
    ]
    assert "AdamW's default gave no value on 2 of 2 seeds" in verdict.sentences


def test_a_search_from_python_wants_its_model_again(tmp_path: Path) -> None:
    result = run_search(tmp_path, Classifier, data=loaders, max_steps=5, budget=2, trials=1)
    with pytest.raises(InputError, match=r"was called from Python, and its model is not known: .* --model and --data"):
        opttune.confirm(result.config.out_dir, progress=False)
    for settings, words in ({"top": 0}, "top must be a whole number >= 1"), ({"seeds": 1}, "seeds must .* >= 2"):
        with pytest.raises(InputError, match=words):
            opttune.confirm(result.config.out_dir, Classifier, loaders, progress=False, **settings)  # type: ignore[arg-type]


def test_a_search_without_a_result_has_nothing_to_confirm(tmp_path: Path) -> None:
    result = run_search(tmp_path, FailsInItsFifthStep, data=loaders, baseline=False)
    with pytest.raises(InputError, match="so there is nothing to confirm"):
        opttune.confirm(result.config.out_dir, FailsInItsFifthStep, loaders, progress=False)


def test_trainer_arguments_that_cannot_be_kept_are_asked_for_again(tmp_path: Path) -> None:
    import lightning.pytorch as pl

    trainer = {"callbacks": [pl.callbacks.ModelSummary()]}
    result = run_search(tmp_path, Classifier, data=loaders, max_steps=5, budget=2, trials=1, trainer=trainer)
    assert "Trainer(max_steps=5, " in result.answer.trainer_call()
    assert ", callbacks=[*callbacks, opttune.RecipeCallback(" in result.answer.trainer_call()
    with pytest.raises(InputError, match=r"had Trainer arguments that a study cannot store \(callbacks\)"):
        opttune.confirm(result.config.out_dir, Classifier, loaders, progress=False)

    # as the search says at its end: its result holds them
    verdict = opttune.confirm(result, Classifier, loaders, seeds=2, progress=False)
    assert repr(verdict) == "\n".join(verdict.sentences)
