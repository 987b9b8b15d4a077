"""Several write, list and clear one folder at a time: each file is whole, and no look at the folder fails."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from opttune.shared_folder import files_in, remove_empty, write_whole


def test_readers_see_one_writers_file_whole_while_several_write_it(tmp_path: Path) -> None:
    path = tmp_path / "best.yaml"
    texts = [letter * 100_000 for letter in "abcd"]
    write_whole(path, texts[0])
    with ThreadPoolExecutor(4) as writers:
        written = [writers.submit(write_whole, path, text) for text in texts * 25]
        seen = set()
        while not all(each.done() for each in written):
            seen.add(path.read_text())
        for each in written:
            each.result()

    assert seen <= set(texts)
    assert [left.name for left in tmp_path.iterdir()] == ["best.yaml"]


def test_bytes_are_written_as_they_are_and_text_as_utf_8(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", b"\x00\xff\r\n")
    write_whole(tmp_path / "b", "\u00b1\n")

    assert (tmp_path / "a").read_bytes() == b"\x00\xff\r\n"
    assert (tmp_path / "b").read_bytes() == b"\xc2\xb1\n"


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    # a folder of that name cannot be replaced by a file
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError):
        write_whole(tmp_path / "taken", "text")

    assert [left.name for left in tmp_path.iterdir()] == ["taken"]


def test_a_file_that_is_written_may_be_read_by_others_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    write_whole(tmp_path / "whole", "text")

    assert (tmp_path / "whole").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.slow
def test_a_folder_may_come_and_go_while_it_is_looked_at(tmp_path: Path) -> None:
    folder = tmp_path / "spool"

    def come_and_go() -> None:
        for _ in range(2000):
            folder.mkdir(exist_ok=True)
            remove_empty(folder)

    with ThreadPoolExecutor(1) as other:
        going = other.submit(come_and_go)
        while not going.done():
            assert files_in(folder) == []
        going.result()


def test_files_are_listed_by_name(tmp_path: Path) -> None:
    for name in ("2.jsonl", "10.jsonl", "1.jsonl"):
        (tmp_path / name).touch()

    assert [file.name for file in files_in(tmp_path)] == ["1.jsonl", "10.jsonl", "2.jsonl"]


def test_a_folder_is_removed_where_nothing_lies_in_it(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "1-1.jsonl").touch()
    for name in ("empty", "full", "never_made"):
        remove_empty(tmp_path / name)

    assert [path.name for path in tmp_path.iterdir()] == ["full"]
