import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from opttune.errors import InputError
from opttune.references import load_reference


@pytest.fixture(autouse=True)
def _clean_imports() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_name_in_a_file_is_loaded(tmp_path: Path) -> None:
    path = write(tmp_path / "mine_a.py", "thing = 3")

    assert load_reference(f"{path}:thing", "MODEL") == 3


def test_a_files_own_imports_work_as_in_a_script(tmp_path: Path) -> None:
    write(tmp_path / "beside_b.py", "value = 5")
    path = write(tmp_path / "mine_b.py", "from beside_b import value")

    assert load_reference(f"{path}:value", "MODEL") == 5


def test_two_names_of_one_file_come_from_one_module(tmp_path: Path) -> None:
    path = write(tmp_path / "mine_c.py", "class A: pass\nclass B(A): pass")

    assert issubclass(load_reference(f"{path}:B", "DATA"), load_reference(f"{path}:A", "MODEL"))


def test_two_files_of_one_name_are_kept_apart(tmp_path: Path) -> None:
    first = write(tmp_path / "one" / "train_d.py", "x = 1")
    second = write(tmp_path / "two" / "train_d.py", "x = 2")

    assert [load_reference(f"{path}:x", "MODEL") for path in (first, second, first, second)] == [1, 2, 1, 2]


def test_a_file_of_a_standard_name_does_not_take_its_place(tmp_path: Path) -> None:
    import random

    path = write(tmp_path / "random.py", "x = 1")

    assert load_reference(f"{path}:x", "MODEL") == 1
    assert sys.modules["random"] is random


def test_a_dataclass_in_a_file_knows_its_module(tmp_path: Path) -> None:
    text = "from dataclasses import dataclass\n@dataclass\nclass D:\n    x: 'int' = 1\nd = D()"
    path = write(tmp_path / "mine_e.py", text)

    assert load_reference(f"{path}:d", "MODEL").x == 1


def test_a_name_in_a_module_is_loaded_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "package_f" / "__init__.py", "")
    write(tmp_path / "package_f" / "inner.py", "x = 7")
    monkeypatch.chdir(tmp_path)

    assert load_reference("package_f.inner:x", "MODEL") == 7


@pytest.mark.parametrize("text", ["", "file.py", ":name", "file.py:", "module"])
def test_a_reference_needs_a_place_and_a_name(text: str) -> None:
    with pytest.raises(InputError, match=r"MODEL: .* must be path/file.py:name or package.module:name"):
        load_reference(text, "MODEL")


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match=r"DATA: there is no file nowhere/at/all.py"):
        load_reference("nowhere/at/all.py:x", "DATA")


@pytest.mark.parametrize("name", ["no_such_module_g", "no_such_package_g.inner", "json.no_such_part"])
def test_a_module_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(InputError, match=r"MODEL: there is no module '(json\.)?no_such"):
        load_reference(f"{name}:x", "MODEL")


def test_a_module_that_lacks_another_says_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # "n" is how the name begins, yet it is not the module that was asked for
    write(tmp_path / "needy_h.py", "import n")
    monkeypatch.chdir(tmp_path)

    with pytest.raises(
        InputError, match=r"needy_h fails when it is imported: ModuleNotFoundError: No module named 'n'"
    ):
        load_reference("needy_h:x", "MODEL")


def test_a_name_that_is_not_there_comes_with_the_nearest(tmp_path: Path) -> None:
    text = "import os\nfrom json import dumps\nclass Network: pass\ndata = [1]"
    path = write(tmp_path / "mine_i.py", text)
    importing = write(tmp_path / "mine_l.py", "from json import dumps")

    with pytest.raises(InputError, match=r"has no 'Netwrk'. Did you mean 'Network'\? Allowed: Network, data\.$"):
        load_reference(f"{path}:Netwrk", "MODEL")
    with pytest.raises(InputError, match=r"Allowed: dumps\.$"):
        load_reference(f"{importing}:Net", "MODEL")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\nraise ValueError('two\\nlines')", r"ValueError: two lines \(.*mine_j.py:2\)"),
        ("def f(:", "SyntaxError"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
    ],
)
def test_a_file_that_fails_says_where_on_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = write(tmp_path / "mine_j.py", text)

    with pytest.raises(InputError, match=f"fails when it is imported: {words}") as caught:
        load_reference(f"{path}:x", "MODEL")

    assert "\n" not in str(caught.value)
    assert "mine_j" not in sys.modules


def test_a_file_that_failed_may_be_mended(tmp_path: Path) -> None:
    path = write(tmp_path / "mine_k.py", "raise ValueError")
    with pytest.raises(InputError):
        load_reference(f"{path}:x", "MODEL")
    write(path, "x = 'mended, and longer'")

    assert load_reference(f"{path}:x", "MODEL") == "mended, and longer"
