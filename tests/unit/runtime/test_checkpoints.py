from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest

from opttune.job import Role, TrainingJob
from opttune.recipe import Part, Recipe
from opttune.runtime.checkpoints import CheckpointStore, make_folder, remove_unused
from opttune.space.parse import load_space
from opttune.space.recipe_file import load_recipe
from opttune.study.config import SearchConfig
from opttune.trial_record import TrialRecord
from tests.support.records import make_outcome, make_pause, make_trial

RECIPE = Recipe(Part("adamw", {"lr": 0.01}))
DONE = make_outcome(0.1234567, total_steps=10)


def done(number: int, recipe: Recipe = RECIPE) -> TrialRecord:
    return make_trial(number, DONE, recipe=recipe, steps_spent=10)


def paused(number: int, step: int) -> TrialRecord:
    return make_trial(number, recipe=RECIPE, pauses=(make_pause(1.0, step, 10),))


@pytest.fixture
def config(tmp_path: Path) -> SearchConfig:
    config = SearchConfig(load_space("adamw"), "val_loss", "min", {"max_steps": 10}, "study", tmp_path, seed=7)
    config.checkpoint_folder.mkdir()
    config.final_folder.mkdir()
    return config


@pytest.fixture
def files(config: SearchConfig) -> CheckpointStore:
    return CheckpointStore(config)


def put(path: Path, size: int = 1) -> Path:
    path.write_bytes(b"x" * size)
    return path


def left(config: SearchConfig) -> set[str]:
    return {path.name for folder in (config.checkpoint_folder, config.final_folder) for path in folder.glob("*")}


def test_searches_that_begin_at_once_share_a_folder_that_is_left_empty(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as starts:
        list(starts.map(make_folder, [tmp_path / "of" / "all"] * 1000))

    assert list((tmp_path / "of" / "all").iterdir()) == []


def test_every_state_has_its_own_place_in_the_folder(files: CheckpointStore, config: SearchConfig) -> None:
    places = [
        files.final_path(done(1)),
        files.final_path(done(11)),
        files.rung_path(done(1), 2),
        files.rung_path(done(1), 22),
        files.rung_path(done(11), 2),
    ]

    assert len(set(places)) == len(places)
    assert [path.parent for path in places] == 2 * [config.final_folder] + 3 * [config.checkpoint_folder]


def test_the_pauses_of_a_trial_are_dropped_and_no_others(files: CheckpointStore, config: SearchConfig) -> None:
    for path in (
        files.rung_path(done(1), 2),
        files.rung_path(done(1), 5),
        files.final_path(done(1)),
        files.rung_path(done(11), 2),
    ):
        put(path)
    files.drop_pauses(done(1))

    assert left(config) == {files.final_path(done(1)).name, files.rung_path(done(11), 2).name}


def test_the_latest_pause_may_stay(files: CheckpointStore, config: SearchConfig) -> None:
    for step in (2, 5):
        put(files.rung_path(done(1), step))
    files.drop_pauses(done(1), but_at=5)

    assert left(config) == {files.rung_path(done(1), 5).name}


def test_what_is_not_there_is_dropped_without_a_word(files: CheckpointStore, config: SearchConfig) -> None:
    files.drop_pauses(done(3))
    files.drop_finals(but=[])
    files.remove_orphans([paused(3, 2)])

    assert left(config) == set()


def test_what_a_kill_left_behind_goes_and_the_paused_stay(files: CheckpointStore, config: SearchConfig) -> None:
    kept = (files.rung_path(done(1), 5), files.rung_path(done(2), 2), files.final_path(done(5)))
    for path in (
        *kept,
        files.interrupt_path(done(2)),
        files.rung_path(done(1), 2),
        files.final_path(done(3)),
        files.rung_path(done(5), 2),
    ):
        put(path)
    put(config.checkpoint_folder / "trial_4_step_2.ckpt.partial")
    files.remove_orphans([paused(1, 5), paused(2, 2), done(5)])

    assert left(config) == {path.name for path in kept}


def test_the_state_of_a_trial_that_was_stopped_between_rungs_stays(
    files: CheckpointStore, config: SearchConfig
) -> None:
    put(files.interrupt_path(done(1)))
    files.remove_orphans([replace(paused(1, 2), stopped_at=4)])
    kept = left(config)
    files.remove_orphans([replace(paused(1, 5), stopped_at=4)])

    assert kept == {files.interrupt_path(done(1)).name}
    assert left(config) == set()


def test_what_another_process_is_writing_stays(files: CheckpointStore, config: SearchConfig) -> None:
    for name in ("trial_1_step_5.ckpt.part", "trial_11_step_5.ckpt.part", "trial_1.ckpt"):
        put(config.checkpoint_folder / name)
    files.remove_orphans([replace(paused(1, 2), state="running")])

    assert left(config) == {"trial_1_step_5.ckpt.part", "trial_1.ckpt"}


def test_a_best_is_chosen_by_one_process_at_a_time(config: SearchConfig) -> None:
    first, second = CheckpointStore(config, is_shared=True), CheckpointStore(config, is_shared=True)
    order: list[str] = []

    def choose() -> None:
        with second.held():
            order.append("second")

    with first.held():
        thread = Thread(target=choose)
        thread.start()
        thread.join(0.3)
        order.append("first")
    thread.join()

    assert order == ["first", "second"]


def test_a_search_that_has_ended_leaves_no_state(files: CheckpointStore, config: SearchConfig) -> None:
    put(files.rung_path(done(1), 2))
    put(files.final_path(done(3)))
    files.drop_all()
    files.drop_all()

    assert not config.checkpoint_folder.exists()
    assert not config.final_folder.exists()


def test_the_most_that_states_have_taken_is_noted(files: CheckpointStore) -> None:
    assert files.most_bytes == 0
    put(files.rung_path(done(1), 2), 100)
    put(files.rung_path(done(2), 2), 50)
    files.note_size()
    files.drop_pauses(done(1))
    files.note_size()

    assert files.most_bytes == 150


def test_the_best_trials_state_and_recipe_are_kept(files: CheckpointStore, config: SearchConfig) -> None:
    put(files.final_path(done(3)), 33)
    files.keep_best(done(3), None)
    files.drop_finals(but=[])

    assert config.best_checkpoint_path.stat().st_size == 33
    assert load_recipe(config.best_recipe_path) == RECIPE
    assert left(config) == set()


def test_the_next_best_takes_their_place_and_the_former_may_come_back(
    files: CheckpointStore, config: SearchConfig
) -> None:
    former, better = done(3), done(4, Recipe(Part("adamw", {"lr": 0.02})))
    put(files.final_path(done(3)), 3)
    files.keep_best(former, None)
    files.drop_finals(but=[])
    put(files.final_path(done(4)), 4)
    files.keep_best(better, former)

    assert config.best_checkpoint_path.stat().st_size == 4
    assert load_recipe(config.best_recipe_path) == better.recipe
    files.keep_best(former, better)
    assert config.best_checkpoint_path.stat().st_size == 3
    assert load_recipe(config.best_recipe_path) == RECIPE


def test_a_state_that_another_process_removes_meanwhile_takes_no_room(
    files: CheckpointStore, config: SearchConfig
) -> None:
    files.rung_path(done(1), 2).symlink_to("gone")
    put(files.rung_path(done(2), 2), 10)
    files.note_size()

    assert files.most_bytes == 10


def test_the_state_of_another_trial_is_not_taken_for_the_best(files: CheckpointStore, config: SearchConfig) -> None:
    put(config.best_checkpoint_path)
    files.keep_best(done(4), done(3))

    assert not config.best_checkpoint_path.exists()
    assert left(config) == {files.final_path(done(3)).name}


def test_a_file_system_without_links_takes_a_copy(
    files: CheckpointStore, config: SearchConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr("os.link", refuse)
    put(files.final_path(done(3)), 33)
    files.keep_best(done(3), None)

    assert config.best_checkpoint_path.read_bytes() == files.final_path(done(3)).read_bytes()


def test_the_recipe_says_where_it_comes_from(files: CheckpointStore, config: SearchConfig) -> None:
    put(files.final_path(done(3)))
    files.keep_best(done(3), None)
    text = config.best_recipe_path.read_text()

    for part in ("trial 3 of the study study: val_loss 0.123457", "max_steps=10; seed: 7", "best_recipe.yaml"):
        assert part in text


def test_ends_are_dropped_but_those_that_may_still_win(files: CheckpointStore, config: SearchConfig) -> None:
    for path in (files.final_path(done(3)), files.final_path(done(4)), files.rung_path(done(3), 2)):
        put(path)
    # of one that is being written
    for name in ("trial_4.ckpt.part", "trial_44.ckpt.part"):
        put(config.final_folder / name)
    files.drop_finals(but=[done(4)])

    assert left(config) == {files.final_path(done(4)).name, files.rung_path(done(3), 2).name, "trial_4.ckpt.part"}


def test_auxiliary_runs_keep_and_lose_their_states_as_trials_do(files: CheckpointStore, config: SearchConfig) -> None:
    runs = [
        replace(paused(1, 5), auxiliary=TrainingJob(RECIPE, 7, role))
        for role in (Role.BASELINE, Role.REPLICATE, Role.CONFIRMATION)
    ]
    kept = [put(files.rung_path(run, 5)) for run in (paused(1, 5), *runs)]
    assert len(set(kept)) == 4
    for run in runs:
        put(files.rung_path(run, 2))
        put(files.interrupt_path(run))
    files.remove_orphans([paused(1, 5), *runs])
    assert left(config) == {path.name for path in kept}

    files.drop_pauses(runs[0])
    files.remove_orphans([paused(1, 5), *runs[:2]])
    assert left(config) == {kept[0].name, kept[2].name}


def test_new_folders_are_removed_unless_something_is_in_them(tmp_path: Path) -> None:
    out_dir = tmp_path / "runs" / "study"
    new = make_folder(out_dir)
    (out_dir / ".lock").touch()
    assert new == [out_dir, out_dir.parent]
    assert make_folder(out_dir) == []

    (out_dir / "study.journal").touch()
    remove_unused(new)
    assert sorted(path.name for path in out_dir.iterdir()) == [".lock", "study.journal"]

    (out_dir / "study.journal").unlink()
    remove_unused(new)
    assert list(tmp_path.iterdir()) == []
