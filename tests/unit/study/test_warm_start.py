from pathlib import Path

import optuna
import pytest
from optuna.storages import BaseStorage

from opttune.errors import InputError
from opttune.outcome import StopReason
from opttune.space.model import Scalar, SettledSpace, Space
from opttune.space.sample import default_parameters, sample_recipe
from opttune.space.settle import EarlierBest, with_earlier_best
from opttune.storages.open_storage import open_storage
from opttune.storages.study_folder import folder_name
from opttune.storages.study_store import StudyStore
from opttune.study.warm_start import find_earlier
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


ONE = "optimizer: {sgd: {lr: {low: 1e-4, high: 1.0, log: true, source: test}}}\nschedule: {constant: {}}"


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

    with pytest.raises(InputError, match=r"warm start: no trial of the study 'earlier' has finished\."):
        find_earlier(tmp_path / "old")


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
    add(make_study(journal(tmp_path / "old")), {"sgd.lr": 0.3}, 0.5, make_space(ONE))
    (found,) = find_earlier(tmp_path / "old")

    assert (found.optimizer, found.schedule) == ("sgd", "constant")
    assert default_parameters(with_earlier_best(SETTLED, [found]).space, 0)["sgd.lr"] == 0.3


def test_an_earlier_value_is_named_by_its_trial_and_study(tmp_path: Path) -> None:
    add(make_study(journal(tmp_path / "old")), {"sgd.lr": 0.3}, 0.5, make_space(ONE))
    space = make_space(ONE.replace("1.0", "0.1"), "mine")
    settled = with_earlier_best(SettledSpace(space), find_earlier(tmp_path / "old"))

    assert default_parameters(settled.space, 0)["sgd.lr"] == 0.1
    (note,) = settled.warnings
    assert note == "The sgd.lr 0.3 of trial 0 of earlier became 0.1: the space mine allows 0.0001 to 0.1."
