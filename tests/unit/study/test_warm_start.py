from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import BaseStorage

from opttune.errors import InputError
from opttune.outcome import StopReason
from opttune.space.model import Choice, Fixed, Range, Scalar, Space
from opttune.space.sample import default_parameters, sample_recipe
from opttune.space.settle import SettledSpace
from opttune.storages.find_study import folder_name
from opttune.storages.open_storage import open_storage
from opttune.storages.study_store import StudyStore
from opttune.study.warm_start import EarlierBest, find_earlier, with_earlier_best
from tests.support.records import make_outcome, make_pause
from tests.support.searches import make_space

SPACE = make_space("""
optimizer:
  adamw:
    lr: {low: 1e-5, high: 1e-1, log: true, prior: 1e-3, source: test}
    beta2: {low: 0.5, high: 0.999, log_of_one_minus: true, prior: 0.9, source: test}
    weight_decay: {choices: [0.0, 0.1, 0.2], source: test}
  sgd:
    lr: {low: 1e-4, high: 1.0, log: true, prior: 1e-2, source: test}
    momentum: 0.9
schedule:
  constant: {}
  linear: {warmup_fraction: {low: 0.0, high: 0.1, source: test}}
accumulate_grad_batches: {low: 1, high: 8, prior: 1, source: test}
""")
SETTLED = SettledSpace(SPACE, ("noted before",))

ADAMW: dict[str, Scalar] = {
    "optimizer": "adamw",
    "schedule": "linear",
    "adamw.lr": 0.02,
    "adamw.one_minus_beta2": 0.01,
    "adamw.weight_decay": 0.2,
    "linear.warmup_fraction": 0.05,
    "accumulate_grad_batches": 4,
}
SGD: dict[str, Scalar] = {"optimizer": "sgd", "schedule": "constant", "sgd.lr": 0.5, "accumulate_grad_batches": 2}

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    monkeypatch.chdir(tmp_path)


def make_study(storage: BaseStorage, name: str = "earlier", mode: str = "min") -> StudyStore:
    return StudyStore(name, storage, {"mode": mode, "monitor": "val"})


def journal(folder: Path) -> BaseStorage:
    folder.mkdir(parents=True, exist_ok=True)
    return open_storage(None, folder)


def add(store: StudyStore, parameters: dict[str, Scalar], value: float | None, space: Space = SPACE) -> None:
    """Add a trial that came to its end, or diverged where it has no value."""
    store.study.enqueue_trial(parameters)
    trial = store.trials.ask()
    store.trials.save_start(trial.number, sample_recipe(space, trial), "key")
    outcome = make_outcome(value)
    store.save_outcome(store.trials.record(trial.number), outcome)
    store.trials.tell(trial.number, outcome)


def earlier(parameters: dict[str, Scalar], **more: Any) -> EarlierBest:
    merged = {**parameters, **more}
    return EarlierBest(str(merged["optimizer"]), str(merged["schedule"]), merged, 0.5)


def warm(*found: EarlierBest, space: Space = SPACE) -> Space:
    return with_earlier_best(SettledSpace(space), found).space


def names(found: list[EarlierBest]) -> list[tuple[str, float]]:
    return [(one.optimizer, one.value) for one in found]


def test_each_optimizers_best_trial_is_found_the_best_first(tmp_path: Path) -> None:
    store = make_study(journal(tmp_path / "old"))
    for parameters, value in ((ADAMW, 0.5), (SGD, 0.4), ({**ADAMW, "adamw.lr": 0.01}, 0.3), (SGD, 0.6), (SGD, None)):
        add(store, parameters, value)
    first, second = find_earlier(tmp_path / "old")

    assert (first.optimizer, first.schedule, first.value) == ("adamw", "linear", 0.3)
    assert first.parameters == {**ADAMW, "adamw.lr": 0.01}
    assert (second.optimizer, second.schedule, second.value) == ("sgd", "constant", 0.4)


def test_where_more_is_better_the_largest_value_is_the_best(tmp_path: Path) -> None:
    store = make_study(journal(tmp_path / "old"), mode="max")
    for parameters, value in ((ADAMW, 0.5), (SGD, 0.9), (ADAMW, 0.7), (SGD, 0.8), (ADAMW, None)):
        add(store, parameters, value)

    assert names(find_earlier(tmp_path / "old")) == [("sgd", 0.9), ("adamw", 0.7)]


def test_a_trial_that_was_paused_or_given_up_is_no_best(tmp_path: Path) -> None:
    store = make_study(journal(tmp_path / "old"))
    add(store, ADAMW, 0.5)
    for reason in (StopReason.PAUSED, StopReason.OUTRANKED):
        store.study.enqueue_trial(SGD)
        trial = store.trials.ask()
        store.trials.save_start(trial.number, sample_recipe(SPACE, trial), "key")
        store.trials.save_pause(trial.number, make_pause(0.1, 10))
        if reason is StopReason.OUTRANKED:
            store.save_outcome(store.trials.record(trial.number), make_outcome(0.1, reason, steps=10))

    assert names(find_earlier(tmp_path / "old")) == [("adamw", 0.5)]


def test_a_study_is_found_by_the_name_of_its_search(tmp_path: Path) -> None:
    add(make_study(journal(tmp_path / "opttune_runs" / folder_name("Net: wide")), "Net: wide"), ADAMW, 0.5)

    assert names(find_earlier("Net: wide")) == [("adamw", 0.5)]


def test_of_a_folder_with_several_studies_the_one_of_that_name_is_meant(tmp_path: Path) -> None:
    storage = journal(tmp_path / "opttune_runs" / "second")
    add(make_study(storage, "first"), ADAMW, 0.5)
    add(make_study(storage, "second"), SGD, 0.4)

    assert names(find_earlier("second")) == [("sgd", 0.4)]


def test_a_study_is_found_in_a_storage_before_the_folders(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    add(make_study(open_storage(url, tmp_path)), SGD, 0.4)
    add(make_study(journal(tmp_path / "opttune_runs" / "earlier")), ADAMW, 0.5)
    add(make_study(journal(tmp_path / "opttune_runs" / "other"), "other"), ADAMW, 0.6)

    assert names(find_earlier("earlier", url)) == [("sgd", 0.4)]
    assert names(find_earlier("other", url)) == [("adamw", 0.6)]


@pytest.mark.parametrize("url", [None, "sqlite:///optuna.db"])
def test_a_study_that_is_not_there_is_named_with_where_it_was_looked_for(url: str | None) -> None:
    with pytest.raises(InputError, match=r"warm start: there is no study 'nosuch'.*opttune_runs/nosuch"):
        find_earlier("nosuch", url)


def test_looking_for_a_study_makes_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no study"):
        find_earlier("nosuch")

    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_several_studies_wants_a_name(tmp_path: Path) -> None:
    for name in ("first", "second"):
        make_study(journal(tmp_path / "old"), name)

    with pytest.raises(InputError, match=r"warm start: .*old holds 2 studies\. .*first.*second"):
        find_earlier(tmp_path / "old")


def test_a_study_of_another_tool_is_refused(tmp_path: Path) -> None:
    optuna.create_study(study_name="own", storage=journal(tmp_path / "old"))

    with pytest.raises(InputError, match=r"warm start: the study 'own' was not made by opttune search\."):
        find_earlier(tmp_path / "old")


def test_a_study_without_a_finished_trial_is_refused(tmp_path: Path) -> None:
    add(make_study(journal(tmp_path / "old")), ADAMW, None)

    with pytest.raises(InputError, match=r"warm start: no trial of the study 'earlier' came to its end\."):
        find_earlier(tmp_path / "old")


def test_the_default_recipes_are_what_was_best() -> None:
    space = warm(earlier(ADAMW), earlier(SGD))

    # of what all recipes share, the best trial's counts; so does its schedule
    shared = {name: ADAMW[name] for name in ("schedule", "linear.warmup_fraction", "accumulate_grad_batches")}
    assert default_parameters(space, 0) == pytest.approx(ADAMW)
    assert default_parameters(space, 1) == {**SGD, **shared}


def test_ranges_and_choices_stay_as_they_are() -> None:
    space = warm(earlier(ADAMW), earlier(SGD))
    for before, after in zip(SPACE.optimizers, space.optimizers, strict=True):
        for (name, field), (same, moved) in zip(before.fields, after.fields, strict=True):
            assert name == same
            assert type(field) is type(moved)
            if isinstance(field, Range) and isinstance(moved, Range):
                assert (field.low, field.high, field.scale) == (moved.low, moved.high, moved.scale)
            if isinstance(field, Choice) and isinstance(moved, Choice):
                assert field.choices == moved.choices
            if isinstance(field, Fixed):
                assert field == moved


def test_optimizers_and_the_schedule_that_were_best_come_first() -> None:
    space = warm(earlier(SGD, schedule="linear"), earlier(ADAMW))

    assert [branch.name for branch in space.optimizers] == ["sgd", "adamw"]
    assert [branch.name for branch in space.schedules] == ["linear", "constant"]


def test_an_optimizer_that_was_not_tried_comes_last_with_the_prior_it_had() -> None:
    space = warm(earlier(SGD))

    assert [branch.name for branch in space.optimizers] == ["sgd", "adamw"]
    assert space.optimizers[1] == SPACE.optimizers[0]


@pytest.mark.parametrize(("rate", "prior"), [(1e-9, 1e-5), (0.05, 0.05), (7.0, 0.1)])
def test_what_lies_outside_a_range_is_moved_to_its_end(rate: float, prior: float) -> None:
    lr = warm(earlier(ADAMW, **{"adamw.lr": rate})).optimizers[0].get("lr")

    assert isinstance(lr, Range)
    assert lr.prior == prior


@pytest.mark.parametrize(("asked", "prior"), [(0.05, 0.95), (1e-6, 0.999), (0.9, 0.5)])
def test_a_decay_rate_is_read_back_from_its_distance_to_one(asked: float, prior: float) -> None:
    beta2 = warm(earlier(ADAMW, **{"adamw.one_minus_beta2": asked})).optimizers[0].get("beta2")

    assert isinstance(beta2, Range)
    assert beta2.prior == pytest.approx(prior)


@pytest.mark.parametrize(("decay", "start"), [(0.1, 0.1), (0.2, 0.2), (0.3, 0.0)])
def test_a_choice_starts_with_what_was_best_if_it_is_one_of_them(decay: float, start: float) -> None:
    field = warm(earlier(ADAMW, **{"adamw.weight_decay": decay})).optimizers[0].get("weight_decay")

    assert field is not None
    assert field.centre == start


def test_a_schedule_that_the_space_lacks_changes_no_order() -> None:
    space = warm(earlier(ADAMW, schedule="cosine"))

    assert [branch.name for branch in space.schedules] == ["constant", "linear"]


def test_an_optimizer_that_the_space_lacks_is_passed_over() -> None:
    lion = EarlierBest("lion", "linear", {"optimizer": "lion", "schedule": "linear", "lion.lr": 1e-4}, 0.1)
    settled = with_earlier_best(SETTLED, [lion, earlier(SGD)])

    assert [branch.name for branch in settled.space.optimizers] == ["sgd", "adamw"]
    assert settled.space == warm(earlier(SGD))


def test_a_study_of_other_optimizers_alone_teaches_nothing_and_says_so() -> None:
    lion = EarlierBest("lion", "linear", {"lion.lr": 1e-4}, 0.1)
    settled = with_earlier_best(SETTLED, [lion])

    assert settled.space == SPACE
    assert settled.notes[0] == "noted before"
    assert "tried lion, none of which this space holds" in settled.notes[1]


def test_what_the_search_starts_from_is_noted() -> None:
    notes = with_earlier_best(SETTLED, [earlier(ADAMW), earlier(SGD)]).notes

    assert notes[0] == "noted before"
    assert notes[1] == "Starts from the best of an earlier study: lr of adamw 0.02, sgd 0.5."


def test_whole_numbers_stay_whole() -> None:
    found = [default_parameters(warm(earlier(ADAMW)), index)["accumulate_grad_batches"] for index in range(2)]

    assert found == [4, 4]
    assert all(isinstance(value, int) for value in found)


def test_a_warm_space_can_be_stored_and_searched(tmp_path: Path) -> None:
    store = make_study(journal(tmp_path / "old"))
    for parameters, value in ((ADAMW, 0.5), (SGD, 0.4)):
        add(store, parameters, value)
    settled = with_earlier_best(SETTLED, find_earlier(tmp_path / "old"))
    stored = make_study(journal(tmp_path / "new")).settle_space(settled, 100)

    assert stored == settled
    assert (
        sample_recipe(stored.space, optuna.trial.FixedTrial(default_parameters(stored.space, 0))).optimizer["lr"] == 0.5
    )


def test_an_earlier_study_of_a_single_optimizer_teaches_a_space_of_several(tmp_path: Path) -> None:
    text = "optimizer: {sgd: {lr: {low: 1e-4, high: 1.0, log: true, source: test}}}\nschedule: {constant: {}}"
    add(make_study(journal(tmp_path / "old")), {"sgd.lr": 0.3}, 0.5, make_space(text))
    (found,) = find_earlier(tmp_path / "old")

    assert (found.optimizer, found.schedule) == ("sgd", "constant")
    assert default_parameters(warm(found), 0)["sgd.lr"] == 0.3
