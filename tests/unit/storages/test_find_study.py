from pathlib import Path

import optuna
import pytest

from opttune.errors import InputError
from opttune.storages.find_study import find_study
from opttune.storages.open_storage import open_storage
from opttune.storages.records import OUT_DIR
from opttune.storages.study_folder import study_folders
from opttune.storages.study_store import StudyStore

pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return tmp_path


def make(folder: str, *names: str) -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name in names:
        StudyStore(name, open_storage(None, Path(folder)), {"mode": "min"})


def test_a_study_is_found_by_its_name_or_its_folder() -> None:
    make("opttune_runs/Net_wide", "Net wide")
    make("elsewhere", "other")

    assert find_study("Net wide").folder == Path("opttune_runs/Net_wide")
    assert find_study("opttune_runs/Net_wide").study.study_name == "Net wide"
    assert find_study(Path("elsewhere")).study.study_name == "other"


def test_a_study_in_a_storage_knows_its_folder() -> None:
    storage = "sqlite:///studies.db"
    store = StudyStore("s", open_storage(storage, Path()), {"mode": "min"})
    assert find_study("s", storage).folder == Path("opttune_runs/s")

    store.study.set_user_attr(OUT_DIR, "/runs/of/s")
    assert find_study("s", storage).folder == Path("/runs/of/s")


def test_what_is_not_there_is_named_with_what_is() -> None:
    make("opttune_runs/mine", "mine")
    with pytest.raises(InputError, match=r"^STUDY: there is no study 'yours' .*Here are: mine\.$"):
        find_study("yours")
    with pytest.raises(InputError, match=r"looked in the storage, yours and"):
        find_study("yours", "sqlite:///studies.db")


def test_a_folder_with_several_studies_wants_a_name() -> None:
    make("both", "first", "second")
    with pytest.raises(InputError, match=r"both holds 2 studies\. .*first.*second"):
        find_study("both")


def test_a_study_of_another_program_is_refused() -> None:
    optuna.create_study(study_name="own", storage="sqlite:///own.db")
    with pytest.raises(InputError, match=r"the study 'own' was not made by opttune search\."):
        find_study("own", "sqlite:///own.db")


def test_the_folders_of_all_searches_are_listed() -> None:
    assert study_folders() == []
    make("opttune_runs/b", "b")
    make("opttune_runs/a", "a")
    assert study_folders() == [Path("opttune_runs/a"), Path("opttune_runs/b")]
