"""One search, made by the command, which the commands on searches that were made look at."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from opttune.cli import DONE, main
from tests.support.searches import MODULES, TINY, make_database, write_space


@pytest.fixture(scope="session")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searched")
    uri = make_database(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        code = main(
            ["search", f"{MODULES}:Classifier", f"{MODULES}:loaders", "--max-steps", "5", "--budget", "4",
             "--space", str(write_space(folder, TINY)), "--tracking-uri", uri, "--study", "net", "--no-report",
             "--engine", "inline"]
        )  # fmt: skip
    assert code == DONE
    return folder


@pytest.fixture
def in_folder(searched: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(searched)
    path, modules = list(sys.path), set(sys.modules)
    yield searched
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if "search_models" in name:
            del sys.modules[name]
