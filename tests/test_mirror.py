from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path.relative_to(ROOT / "opttune") for path in (ROOT / "opttune").rglob("*.py") if path.name != "__init__.py"
)
# files that somebody is writing just now, as "folder/name.py"; empty otherwise
UNDER_WAY: set[str] = set()


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_every_source_file_has_its_test_file(source: Path) -> None:
    if source.as_posix() not in UNDER_WAY:
        assert (ROOT / "tests" / source.parent / f"test_{source.name}").is_file()


def test_nothing_is_allowed_to_be_missing_that_is_there() -> None:
    there = {name for name in UNDER_WAY if (ROOT / "tests" / Path(name).parent / f"test_{Path(name).name}").is_file()}

    assert not there, f"take {sorted(there)} out of UNDER_WAY"
