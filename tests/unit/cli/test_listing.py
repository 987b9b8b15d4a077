import json
from dataclasses import fields
from typing import Any

import pytest

from opttune.catalog.info import OptimizerInfo, OptionInfo, ScheduleInfo
from opttune.catalog.lookup import find_optimizer, optimizer_names, schedule_names
from opttune.catalog.recorded_costs import recorded_costs
from opttune.cli.listing import (
    QUIRKS,
    catalog_entry,
    catalog_rows,
    print_cost_notes,
    print_entry,
    print_rows,
    print_space,
    space_rows,
)
from opttune.errors import UnknownNameError
from opttune.space.parse import load_space, space_names
from tests.support.searches import make_space


def test_every_space_that_ships_has_a_row() -> None:
    rows = space_rows()

    assert tuple(row["space"] for row in rows) == space_names()
    assert all(row["for"] and row["optimizers"] and row["schedules"] for row in rows)


@pytest.mark.parametrize(("kind", "names"), [("optimizers", optimizer_names()), ("schedules", schedule_names())])
def test_every_row_of_the_catalog_is_listed_with_its_source(kind: str, names: tuple[str, ...]) -> None:
    rows = catalog_rows(kind)

    assert [row["name"] for row in rows] == list(names)
    assert all(row["what"] and row["source"] for row in rows)


@pytest.mark.parametrize(
    ("kind", "name"), [*(("optimizers", n) for n in optimizer_names()), *(("schedules", n) for n in schedule_names())]
)
def test_every_entry_is_shown_whole_and_json_can_hold_it(
    kind: str, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    entry = catalog_entry(kind, name)
    print_entry(entry, as_json=False)
    shown = capsys.readouterr().out

    assert json.loads(json.dumps(entry, allow_nan=False)) == entry
    for fact in ("summary", "source", "advice", "class", "formula", "code"):
        assert entry.get(fact, "") in shown
    for option in entry["options"]:
        assert option["what"] in shown
        assert all(search["source"] in shown for search in option["search"])


def test_an_optimizer_comes_with_its_facts_and_the_quirks_that_are_set() -> None:
    entry = catalog_entry("optimizers", "schedule_free_adamw")

    assert entry["class"] == find_optimizer("schedule_free_adamw").class_path
    assert entry["state_bytes"] == 8.0
    assert {"own_schedule", "needs_eval_mode_switch"} <= set(entry["quirks"])
    assert catalog_entry("optimizers", "adamw")["quirks"] == {}
    assert "matrices_only" in catalog_entry("optimizers", "muon")["quirks"]
    assert "total_steps_option" in catalog_entry("optimizers", "ademamix")["quirks"]
    assert "follows_monitor" in catalog_entry("schedules", "plateau")["quirks"]


def test_every_flag_of_a_row_has_its_words() -> None:
    flags = {field.name for info in (OptimizerInfo, ScheduleInfo) for field in fields(info) if field.default is False}

    assert set(QUIRKS) == flags


def test_an_optimizers_listing_names_its_state_and_its_extra() -> None:
    rows = {row["name"]: row for row in catalog_rows("optimizers")}

    assert (rows["adamw"]["state_bytes"], rows["adamw"]["extra"]) == (8.0, "")
    assert rows["adamw_8bit"]["extra"] == "8bit"
    assert "state_bytes" not in catalog_rows("schedules")[0]


def test_an_optimizers_step_is_shown_with_where_it_was_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    soap = recorded_costs()[0].costs["soap"]
    rows = {row["name"]: row for row in catalog_rows("optimizers")}
    assert rows["soap"]["step_cost"]["cpu"] == soap.ratio
    assert rows["soap"]["peak_memory"]["cpu"] == soap.memory
    assert rows["own"]["step_cost"] == rows["own"]["peak_memory"] == {}

    print_rows([rows["soap"]], as_json=False)
    print_entry(catalog_entry("optimizers", "soap"), as_json=False)
    print_cost_notes()
    shown = capsys.readouterr().out
    assert f"{soap.ratio:.3g} (CPU)" in shown
    assert f"{soap.ratio:.2f} x AdamW's ({soap.low:.2f} to {soap.high:.2f}), {soap.memory:.2f} x" in shown
    assert f"{recorded_costs()[0].parameters:,} parameters" in shown


def test_ranges_are_shown_with_scale_centre_and_budget(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    for kind, name in (("optimizers", "adamw"), ("optimizers", "adamw_8bit"), ("schedules", "wsd")):
        print_entry(catalog_entry(kind, name), as_json=False)
    shown = capsys.readouterr().out

    for text in (
        "8 bytes per parameter in float32",
        "pip install 'opttune[8bit]'",
        "1e-05 .. 0.1 log ",
        "0.001 (0.01 for 300 steps)",
        "0.0001 .. 1 log, or 0",
        "log of 1 - x",
        "one_minus_sqrt | linear",
        "always",
        "from 10 trainings on",
    ):
        assert text in shown


def test_an_entry_as_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    print_entry(catalog_entry("schedules", "cosine"), as_json=True)
    plain = json.loads(capsys.readouterr().out)

    assert plain["name"] == "cosine"
    assert plain["options"][0]["search"][0]["also"] == [0.0]


def test_a_row_of_the_users_own_is_shown_too(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    info = OptimizerInfo("mine", dict, "[b]my own[/b]", (OptionInfo("lr", 0.1),), "me")
    monkeypatch.setattr("opttune.cli.listing.find_optimizer", lambda name: info)
    print_entry(catalog_entry("optimizers", "mine"), as_json=False)
    shown = capsys.readouterr().out

    assert "mine: [b]my own[/b]" in shown
    assert "builtins.dict" in shown
    assert "bytes" not in shown
    assert "None of its options is searched." in shown


def test_an_unknown_name_comes_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'adamw'"):
        catalog_entry("optimizers", "adamww")


def test_rows_are_printed_as_a_table_or_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[dict[str, Any]] = [{"name": "a", "default": None}, {"name": "b", "default": [0.9, 0.99]}]
    print_rows(rows, as_json=False)
    table = capsys.readouterr().out
    print_rows(rows, as_json=True)

    assert "name" in table
    assert "[0.9, 0.99]" in table
    assert json.loads(capsys.readouterr().out) == rows


def test_no_rows_are_an_empty_table(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([], as_json=False)
    print_rows([], as_json=True)

    assert capsys.readouterr().out.strip().endswith("[]")


@pytest.mark.parametrize("name", space_names())
def test_a_space_is_shown_field_by_field_with_its_sources(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "500")  # no table cell is folded
    space = load_space(name)
    print_space(space, as_json=False)
    shown = capsys.readouterr().out

    assert shown.startswith(f"{name}: {space.description}")
    for branch in space.optimizers:
        assert f"{branch.name}." in shown
    assert all(field.source in shown for _, field in space.parameters())


def test_a_space_as_json_is_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    print_space(load_space("wide"), as_json=True)

    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(load_space("wide").to_dict()))


def test_ranges_choices_and_fixed_values_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    space = make_space(
        """
description: "[red]brackets[/red] are text"
optimizer:
  adamw:
    lr: {low: 1e-4, high: 1e-2, log: true}
    beta2: {low: 0.9, high: 0.999, log_of_one_minus: true}
    weight_decay: 0.1
schedule: {constant: {}}
gradient_clip_norm: {choices: [1.0, null]}
"""
    )
    print_space(space, as_json=False)
    shown = capsys.readouterr().out

    for text in ("[red]brackets[/red]", "0.0001 .. 0.01 log", "log of 1 - x", "0.1", "1 | null"):
        assert text in shown


def test_a_space_of_nothing_to_search_is_shown_too(capsys: pytest.CaptureFixture[str]) -> None:
    print_space(make_space("description: fixed\noptimizer: {sgd: {}}\nschedule: {constant: {}}\n"), as_json=False)

    assert "fixed" in capsys.readouterr().out
