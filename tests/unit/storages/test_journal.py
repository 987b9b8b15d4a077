import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import optuna
import pytest

from opttune.engines.engine import ENGINE_FOLDER
from opttune.engines.start import remove_stale_engines
from opttune.errors import InputError, StudyError
from opttune.storages.journal import JournalFile
from opttune.storages.open_storage import lock_folder, open_storage, quiet_optuna
from tests.support.searches import command_env


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with quiet_optuna():
        yield


def add_trials(folder: Path, count: int = 1, url: str | None = None) -> int:
    """Run some trials of the folder's study, and return how many there are."""
    study = optuna.create_study(study_name="s", storage=open_storage(url, folder), load_if_exists=True)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=count)
    return len(optuna.load_study(study_name="s", storage=open_storage(url, folder)).trials)


@pytest.mark.slow
def test_a_folder_is_held_by_one_process_at_a_time_and_freed_by_its_death(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from opttune.storages.open_storage import lock_folder\n"
        f"with lock_folder(Path({str(tmp_path)!r})): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=command_env()) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(StudyError, match="another search is running"), lock_folder(tmp_path):
            raise AssertionError("not reached")
        other.kill()
    with lock_folder(tmp_path):
        assert os.listdir(tmp_path) == [".lock"]


def test_what_the_workers_of_killed_searches_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / f"{ENGINE_FOLDER}1" / "job_0").mkdir(parents=True)
    (tmp_path / f"{ENGINE_FOLDER}1" / "job_0" / "attempt.json").touch()
    (tmp_path / "checkpoints").mkdir()
    remove_stale_engines(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]


@pytest.mark.slow
def test_the_lock_that_a_killed_search_left_on_its_journal_costs_a_second(tmp_path: Path) -> None:
    add_trials(tmp_path)
    # as Optuna makes it, held by no living process
    (tmp_path / "study.journal.lock").symlink_to(tmp_path / "study.journal")
    started = time.monotonic()
    count = add_trials(tmp_path)

    assert time.monotonic() - started < 5
    assert count == 2


@pytest.mark.slow
def test_a_storage_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be opened"):
        open_storage("nonsense://here", tmp_path)


@pytest.mark.parametrize(
    "tail", [b'{"op_code":5,"worker_id":"torn', b"\0\0\0\0\0", b'{"op_code":5,"torn\n', b"\0\n{", b"x" * 9000], ids=repr
)
def test_what_a_full_disk_or_a_power_cut_left_of_a_line_is_cut_off(tail: bytes, tmp_path: Path) -> None:
    add_trials(tmp_path, 3)
    journal = tmp_path / "study.journal"
    whole = journal.read_bytes()
    with journal.open("ab") as file:
        file.write(tail)
    count = add_trials(tmp_path)

    assert count == 4
    assert journal.read_bytes().startswith(whole)
    assert all(json.loads(line) for line in journal.read_text().splitlines())


def test_a_journal_of_a_torn_line_alone_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "study.journal").write_bytes(b'{"op')

    assert add_trials(tmp_path) == 1


def test_a_journal_elsewhere_is_named_by_a_url(tmp_path: Path) -> None:
    assert add_trials(tmp_path, url=f"journal://{tmp_path / 'else.journal'}") == 1
    assert (tmp_path / "else.journal").stat().st_size > 0


@pytest.mark.slow
def test_a_password_in_the_address_of_a_storage_that_cannot_be_opened_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        open_storage("postgresql+nodriver://me:hunter2@127.0.0.1/db", tmp_path)

    assert "hunter2" not in str(caught.value)


@pytest.mark.slow
def test_what_is_written_in_a_batch_is_seen_at_once_and_stays_after_a_kill(tmp_path: Path) -> None:
    code = (
        "import os, sys, time; from pathlib import Path; import optuna\n"
        "from opttune.storages.journal import JournalFile; from opttune.storages.open_storage import open_storage\n"
        f"storage = open_storage(None, Path({str(tmp_path)!r}))\n"
        "study = optuna.create_study(study_name='s', storage=storage)\n"
        "with storage.batch():\n"
        "    for _ in range(3): study.tell(study.ask(), 1.0)\n"
        "    print('told', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=command_env()) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"told\n"
        seen = len(optuna.load_study(study_name="s", storage=open_storage(None, tmp_path)).trials)
        other.kill()

    assert seen == 3
    assert add_trials(tmp_path) == 4


def test_after_an_error_each_line_is_brought_to_disk_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage, synced = open_storage(None, tmp_path), []
    assert isinstance(storage, JournalFile)
    fsync = os.fsync
    monkeypatch.setattr("os.fsync", lambda number: (synced.append(number), fsync(number)))
    study = optuna.create_study(study_name="s", storage=storage)
    with suppress(ZeroDivisionError), storage.batch():
        before = len(synced)
        study.set_user_attr("a", 1)
        study.set_user_attr("b", 2)
        assert len(synced) == before
        raise ZeroDivisionError
    assert len(synced) == before + 1
    study.set_user_attr("c", 3)

    assert len(synced) == before + 2


def test_ctrl_c_while_the_lock_of_a_journal_is_let_go_stays_ctrl_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = optuna.create_study(study_name="s", storage=open_storage(None, tmp_path))
    remove = os.unlink

    def pressed(path: str) -> None:
        remove(path)
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr("os.unlink", pressed)
    with pytest.raises(KeyboardInterrupt):
        study.set_user_attr("a", 1)
    study.set_user_attr("b", 2)
    assert study.user_attrs == {"a": 1, "b": 2}


def test_what_another_process_writes_to_a_journal_counts_once_it_is_read(tmp_path: Path) -> None:
    own, other = (open_storage(None, tmp_path) for _ in range(2))
    assert isinstance(own, JournalFile)
    study = optuna.create_study(study_name="s", storage=other)
    own.get_all_studies()
    before = own.lines_read
    own.get_all_studies()
    assert own.lines_read == before
    study.set_user_attr("x", 1)
    own.get_all_studies()

    assert own.lines_read == before + 1
