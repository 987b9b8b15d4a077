"""The gallery shows what was recorded, by commands that there are, and each of its pages is whole."""

import ast
import json
import re
import shlex
import sys
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from opttune.cli.parser import _make_parser
from opttune.space.parse import load_space
from tests.project.test_docs import TABLES

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
MOST_BYTES = 40_000


def load_gallery() -> ModuleType:
    spec = spec_from_file_location("gallery", ROOT / "benchmarks" / "gallery.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules["gallery"] = module  # where dataclasses look a module up
    spec.loader.exec_module(module)
    return module


GALLERY = load_gallery()
SCENARIOS = GALLERY.SCENARIOS
FIGURES = json.loads((DOCS / "figures" / "gallery.json").read_text(encoding="utf-8"))


def test_what_is_recorded_has_a_page_and_a_picture_and_nothing_else_does() -> None:
    assert FIGURES
    assert list(FIGURES) == [name for name in SCENARIOS if name in FIGURES]
    assert {path.name for path in (DOCS / "gallery").glob("*.md")} == {f"{name}.md" for name in FIGURES}
    assert {path.stem for path in (DOCS / "images" / "gallery").iterdir()} == set(FIGURES)


def test_the_index_names_every_scenario() -> None:
    index = (DOCS / "gallery.md").read_text(encoding="utf-8")
    assert {path.name for path in (DOCS / "gallery").glob("*.md.in")} == {f"{name}.md.in" for name in SCENARIOS}
    for name in SCENARIOS:
        assert (f"(gallery/{name}.md)" in index) is (name in FIGURES)
        assert (f"`python benchmarks/gallery.py {name}`" in index) is (name not in FIGURES)


@pytest.mark.parametrize("name", FIGURES)
def test_the_recorded_commands_are_those_of_the_scenario(name: str) -> None:
    one = FIGURES[name]
    assert (one["search"], one["confirm"]) == (SCENARIOS[name].search, SCENARIOS[name].confirm)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_command_names_files_functions_and_a_space_that_there_are(name: str) -> None:
    for reference in (SCENARIOS[name].model, SCENARIOS[name].data):
        file, _, wanted = reference.partition(":")
        tree = ast.parse((ROOT / "examples" / file).read_text())
        defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        imported = {alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
        assert wanted in defined | imported
    options = _make_parser().parse_args(shlex.split(SCENARIOS[name].search)[1:])
    if options.space != "auto":
        assert load_space(ROOT / options.space if options.space.endswith(".yaml") else options.space).optimizers


@pytest.mark.parametrize("name", FIGURES)
def test_a_page_has_every_part_and_a_small_picture(name: str) -> None:
    page = (DOCS / "gallery" / f"{name}.md").read_text(encoding="utf-8")
    heads = re.findall(r"^## (.*)$", page, flags=re.MULTILINE)
    assert heads == ["The command", "The curve", "The answer", "The verdict", "What to learn from it"]
    picture = DOCS / "images" / "gallery" / f"{name}.svg"
    assert picture.stat().st_size <= MOST_BYTES
    text = " ".join(ElementTree.parse(picture).getroot().itertext())
    assert "baseline" in text
    assert FIGURES[name]["monitor"] in text


@pytest.mark.parametrize("name", FIGURES)
def test_the_curve_ends_at_the_best_value_of_the_answer(name: str) -> None:
    one = FIGURES[name]
    values = [row[f"best {one['monitor']}"] for row in one["best_over_cost"]]
    is_max = "--mode max" in one["search"]
    assert values == sorted(values, reverse=not is_max)
    assert f"{one['best_value']:.5g}" in one["answer"][0]
    assert f"{one['baseline_value']:.5g}" in one["answer"][1]


@pytest.mark.parametrize("name", FIGURES)
def test_a_number_in_the_lesson_of_a_page_is_one_that_it_shows(name: str) -> None:
    source = (DOCS / "gallery" / f"{name}.md.in").read_text(encoding="utf-8")
    shown, _, lesson = source.partition(TABLES.RECORDED)
    shown += TABLES._recorded(name, FIGURES[name])
    assert "Not recorded yet." not in lesson
    assert [number for number in re.findall(r"\d[\d,]*\.\d+", lesson) if number not in shown] == []


@pytest.mark.parametrize("name", FIGURES)
def test_a_page_claims_no_win_that_the_verdict_does_not_have(name: str) -> None:
    """The index quotes the verdict; what it says must follow from the recorded comparison."""
    own = next(each for each in FIGURES[name]["verdict"]["candidates"] if each["kind"] == "own")
    said = TABLES._against_own(FIGURES[name])
    assert ("beats" in said) is bool(own["is_distinguishable"])
    assert said in (DOCS / "gallery.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_scenario_is_recorded_by_its_two_commands(tmp_path: Path) -> None:
    small = replace(SCENARIOS["tables"], max_steps=8, budget=3, seeds=2)
    one = GALLERY.record(small, tmp_path)
    assert one["search"].startswith("opttune search examples/tabular.py:TableNet ")
    assert one["answer"][0].startswith(f"best val_loss {one['best_value']:.5g} with ")
    assert any("2 new seeds" in line for line in one["verdict_printed"])
    assert [each["kind"] for each in one["verdict"]["candidates"]].count("own") == 1
    assert one["optimizers"][0]["best"] == one["baseline_value"]
    assert one["best_over_cost"][-1]["trainings"] <= small.budget
    ElementTree.parse(tmp_path / "tables.svg")
