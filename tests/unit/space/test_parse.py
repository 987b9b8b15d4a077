import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opttune.errors import OpttuneError, SpaceError, UnknownNameError
from opttune.recipe import Groups
from opttune.space.model import Branch, Choice, Fixed, Range, SettledSpace, Space
from opttune.space.parse import (
    load_space,
    parse_space,
    settled_from_dict,
    settled_to_dict,
    shipped_name,
    space_names,
)
from opttune.yaml_text import write_yaml
from tests.support.strategies import FAST, plain_data, spaces

SPACES = Path(__file__).parents[3] / "search_spaces"
WIDE = (SPACES / "wide.yaml").read_text(encoding="utf-8")
SMALL = """\
# a comment
description: small
optimizer:
  sgd:
    lr: {low: 1e-3, high: 1, log: true, prior: 0.1, source: "somebody"}
    momentum: 0.9
    nesterov: {choices: [true, false]}
schedule: cosine
gradient_clip_norm: {choices: [1.0, null], prior: null}
accumulate_grad_batches: {low: 1, high: 8, log: true}
groups: {no_decay_norm_bias: false}
"""


def test_a_space_file_holds_what_it_says() -> None:
    assert parse_space(SMALL, "small") == Space(
        "small",
        (
            Branch(
                "sgd",
                (
                    ("lr", Range(1e-3, 1.0, "log", prior=0.1, source="somebody")),
                    ("momentum", Fixed(0.9)),
                    ("nesterov", Choice((True, False))),
                ),
            ),
        ),
        (Branch("cosine"),),
        (
            ("gradient_clip_norm", Choice((1.0, None), start=1)),
            ("accumulate_grad_batches", Range(1, 8, "log", integer=True)),
        ),
        Groups(False),
        "small",
    )


@pytest.mark.slow
@FAST
@given(spaces())
def test_a_space_comes_back_from_yaml_to_the_last_digit(space: Space) -> None:
    read = parse_space(write_yaml(space.to_dict()), space.name)

    assert read == space
    assert parse_space(write_yaml(read.to_dict()), space.name) == read


@pytest.mark.slow
@FAST
@given(st.data())
def test_a_damaged_file_is_a_space_or_one_error_with_its_line(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from([SMALL, WIDE]))
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = start + data.draw(st.integers(0, 12))
        text = text[:start] + data.draw(st.text(max_size=3) | st.sampled_from(_PIECES)) + text[end:]
    _assert_space_or_error(text)


_PIECES = [
    ": ",
    "\n",
    "\n  ",
    "{",
    "}",
    "[",
    "]",
    ", ",
    "null",
    "true",
    "-1",
    "1e999",
    "0",
    ".nan",
    "low: ",
    "log: true",
]
_PIECES += ["choices: ", "prior: 1", "\t", "'", "&a ", "*a", "!!int ", "lr: ", "sgd: ", "- ", "# ", "0x10", "9" * 400]


@pytest.mark.slow
@FAST
@given(plain_data)
def test_any_data_is_a_space_or_one_error_with_its_line(data: Any) -> None:
    _assert_space_or_error(write_yaml({"data": data}).removeprefix("data: "))


PATHS = [
    ("description",),
    ("groups",),
    ("groups", "no_decay_norm_bias"),
    ("optimizer",),
    ("optimizer", "sgd"),
    ("optimizer", "sgd", "lr"),
    *(("optimizer", "sgd", "lr", key) for key in ("low", "high", "log", "log_of_one_minus", "prior", "source")),
    ("optimizer", "sgd", "momentum"),
    ("optimizer", "sgd", "nesterov"),
    ("optimizer", "sgd", "nesterov", "choices"),
    ("optimizer", "sgd", "nesterov", "prior"),
    ("schedule",),
    ("gradient_clip_norm",),
    ("accumulate_grad_batches",),
    ("accumulate_grad_batches", "high"),
    ("precision",),
]


@FAST
@given(st.sampled_from(PATHS), plain_data)
def test_a_value_of_the_wrong_kind_is_a_space_or_one_error_with_its_line(path: tuple[str, ...], value: Any) -> None:
    settings = parse_space(SMALL, "small").to_dict()
    inner: dict[str, Any] = settings
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    _assert_space_or_error(write_yaml(settings))


def _assert_space_or_error(text: str) -> None:
    found = _space_or_problem(text)
    if isinstance(found, str):
        assert re.fullmatch(r"mine\.yaml:[0-9]+: .+", found)
    else:
        assert parse_space(write_yaml(found.to_dict()), "mine") == found


def _space_or_problem(text: str) -> Space | str:
    try:
        return parse_space(text, "mine", where="mine.yaml")
    except OpttuneError as err:
        return str(err)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "s.yaml:1: a space must be a mapping, got None."),
        ("- adamw", "s.yaml:1: a space must be a mapping, got ['adamw']."),
        ("schedule: cosine", "s.yaml:1: there is no `optimizer:`. Write `optimizer: {adamw: {lr: {low: 1e-4, "),
        ("a: 1\na: 2", "s.yaml:2: key 'a' is repeated (first: line 1)."),
        ("\x00", "s.yaml:1: not valid YAML: the character '\\x00' is not allowed."),
        ("optimizer: sgd\nschedul: cosine", "s.yaml:2: unknown key 'schedul' in a space. Did you mean 'schedule'?"),
        ("optimizer: [sgd]", "s.yaml:1: optimizer must be a name or a mapping of names to fields, got ['sgd']."),
        ("optimizer: {}", "s.yaml:1: optimizer must be a name or a mapping of names to fields, got {}."),
        ("optimizer:\n  adamww:", "s.yaml:2: unknown optimizer 'adamww'. Did you mean 'adamw'? Allowed: "),
        ("optimizer: adamww", "s.yaml:1: unknown optimizer 'adamww'. Did you mean 'adamw'? Allowed: "),
        ("optimizer: sgd\nschedule: {cosin: }", "s.yaml:2: unknown schedule 'cosin'. Did you mean 'cosine'? Allowed: "),
        ("optimizer:\n  sgd: false", "s.yaml:2: optimizer sgd must be a mapping, got False."),
        ("optimizer:\n  sgd: []", "s.yaml:2: optimizer sgd must be a mapping, got []."),
        (
            "optimizer:\n  sgd:\n    momentun: 1",
            "s.yaml:3: unknown key 'momentun' in optimizer sgd. Did you mean 'momentum'? Allowed: ",
        ),
        (
            "optimizer: {adamw: {betas: [0.9, 0.9]}}",
            "s.yaml:1: unknown key 'betas' in optimizer adamw. Did you mean 'b",
        ),
        ("optimizer: sgd\ndescription: 5", "s.yaml:2: description must be text, got 5."),
        ("optimizer: sgd\ngroups: {a: 1}", "s.yaml:2: unknown key 'a' in groups. "),
        (
            "optimizer: sgd\ngroups: {no_decay_norm_bias: 1}",
            "s.yaml:2: groups.no_decay_norm_bias must be true or false, got 1.",
        ),
        ("optimizer: sgd\naccumulate_grad_batches: 1e4", "s.yaml:2: accumulate_grad_batches must be a whole number"),
        (
            "optimizer: sgd\naccumulate_grad_batches: {low: 1.5, high: 4}",
            "s.yaml:2: accumulate_grad_batches: low must be a whole number, got 1.5.",
        ),
        ("optimizer: sgd\nprecision: 16", "s.yaml:2: precision must be text or null, got 16."),
    ],
)
def test_a_wrong_file_is_refused_with_line_and_remedy(text: str, message: str) -> None:
    with pytest.raises(OpttuneError, match="^" + re.escape(message)):
        parse_space(text, "s", where="s.yaml")


LR = "s.yaml:3: optimizer.sgd.lr"


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (
            "[1e-4, 1e-2]",
            f"{LR}: a bare list is ambiguous. Write {{low: 0.0001, high: 0.01}} or {{choices: [0.0001, 0.01]}}.",
        ),
        (
            "[1e-2, 1e-4]",
            f"{LR}: a bare list is ambiguous. Write {{low: 0.0001, high: 0.01}} or {{choices: [0.01, 0.0001]}}.",
        ),
        ("[1, 2, 3]", f"{LR}: a bare list is ambiguous. Write {{choices: [1, 2, 3]}}."),
        ("[true, null]", f"{LR}: a bare list is ambiguous. Write {{choices: [true, null]}}."),
        ("{low: 1, high: 1e-2}", f"{LR}: low must be below high, got low 1 and high 0.01."),
        ("{low: 0, high: 1, log: true}", f"{LR}: low must be > 0 because log is true, got 0."),
        ("{low: 0.1, high: 1, prior: 2}", f"{LR}: prior must lie in the range, from 0.1 to 1, got 2."),
        ("{low: 0, high: 1}", f"{LR} must be > 0, got 0."),
        ("-1e-3", f"{LR} must be > 0, got -0.001."),
        ("0x10", f"{LR} must be a number, got '0x10'."),
        ("1_000", f"{LR} must be a number, got '1_000'."),
        ("on", f"{LR} must be a number, got 'on'."),
        ("true", f"{LR} must be a number, got True."),
        (".inf", f"{LR}: a value must be a finite number, text, true, false or null, got inf."),
        (
            "{low: 1e-3}",
            f"{LR} must be {{low: .., high: ..}}, {{choices: [..]}} or a plain value, got {{'low': 0.001}}.",
        ),
        ("{low: a, high: 1}", f"{LR}.low must be a finite number, got 'a'."),
        ("{low: 1, high: .inf}", f"{LR}.high must be a finite number, got inf."),
        ("{low: 1, high: 2, log: yes}", f"{LR}.log must be true or false, got 'yes'."),
        ("{low: 1, high: 2, source: 5}", f"{LR}.source must be text, got 5."),
        ("{low: 1, high: 2, lo: 5}", "s.yaml:3: unknown key 'lo' in optimizer.sgd.lr. Did you mean 'low'?"),
        (
            "{low: 0.1, high: 0.2, log: true, log_of_one_minus: true}",
            f"{LR}: log and log_of_one_minus exclude each other.",
        ),
        ("{choices: 1}", f"{LR}.choices must be a list, got 1."),
        ("{choices: []}", f"{LR}: choices must have at least one value, got []."),
        ("{choices: [1, 1.0]}", f"{LR}: choices must not repeat a value, got [1, 1.0]."),
        ("{choices: [1, true]}", f"{LR}: choices must not repeat a value, got [1, True]."),
        ("{choices: [1, [2]]}", f"{LR}.choices: a value must be a finite number, text, true, false or null, got [2]."),
        ("{choices: [1, 2], prior: 3}", f"{LR}.prior must be one of [1, 2], got 3."),
        ("{choices: [1, 2], prior: true}", f"{LR}.prior must be one of [1, 2], got True."),
        (
            "{choices: [1, 2], low: 1}",
            "s.yaml:3: unknown key 'low' in optimizer.sgd.lr. Allowed: choices, prior, source",
        ),
    ],
)
def test_a_wrong_field_is_refused_with_line_and_remedy(field: str, message: str) -> None:
    with pytest.raises(SpaceError, match="^" + re.escape(message)):
        parse_space(f"optimizer:\n  sgd:\n    lr: {field}", "s", where="s.yaml")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            "nesterov: true",
            "s.yaml:3: optimizer.sgd.nesterov needs momentum > 0, and momentum is 0.0 unless set.",
        ),
        (
            "momentum: 0\n    nesterov: true",
            "s.yaml:4: optimizer.sgd.nesterov needs momentum > 0, and momentum may be 0 here.",
        ),
        (
            "nesterov: {choices: [false, true]}\n    momentum: {low: 0, high: 0.9}",
            "s.yaml:3: optimizer.sgd.nesterov needs momentum > 0, and momentum may be 0 here.",
        ),
        (
            "momentum: {choices: [0.9, 0.0]}\n    nesterov: {choices: [false, true]}",
            "s.yaml:4: optimizer.sgd.nesterov needs momentum > 0, and momentum may be 0 here.",
        ),
    ],
)
def test_an_option_without_what_it_needs_is_refused(fields: str, message: str) -> None:
    with pytest.raises(SpaceError, match="^" + re.escape(message) + "$"):
        parse_space(f"optimizer:\n  sgd:\n    {fields}", "s", where="s.yaml")


@pytest.mark.parametrize(
    "fields",
    ["{nesterov: false}", "{nesterov: {choices: [true, false]}, momentum: {low: 0.1, high: 0.9}}", "{momentum: 0}"],
)
def test_an_option_with_what_it_needs_is_taken(fields: str) -> None:
    assert parse_space(f"optimizer: {{sgd: {fields}}}", "s").optimizers[0].name == "sgd"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            "{weight_decay: 0.1,\n  lr_times_weight_decay: 1e-5}",
            "s.yaml:2: adamw has both weight_decay and lr_times_weight_decay; keep one of them.",
        ),
        (
            "{lr: {low: 1e-308, high: 1},\n  lr_times_weight_decay: 1e+308}",
            "s.yaml:2: weight_decay = optimizer.adamw.lr_times_weight_decay / lr must be >= 0, got inf.",
        ),
        (
            "{\n  lr_times_weight_decay: -1}",
            "s.yaml:2: optimizer.adamw.lr_times_weight_decay must be >= 0, got -1.",
        ),
    ],
)
def test_the_product_of_lr_and_weight_decay_is_held_against_both(fields: str, message: str) -> None:
    with pytest.raises(SpaceError, match="^" + re.escape(message) + "$"):
        parse_space(f"optimizer: {{adamw: {fields}}}", "s", where="s.yaml")


def test_a_schedule_takes_no_product_of_lr_and_weight_decay() -> None:
    with pytest.raises(SpaceError, match=r"^s:1: unknown key 'lr_times_weight_decay' in schedule cosine. "):
        parse_space("{optimizer: sgd, schedule: {cosine: {lr_times_weight_decay: 1}}}", "s", where="s")


def test_a_huge_wrong_value_makes_a_short_message() -> None:
    text = f"optimizer: {{sgd: {{lr: {{choices: {'x' * 10_000}}}}}}}"
    with pytest.raises(SpaceError, match=r"^s:1: optimizer.sgd.lr.choices must be a list, got 'x+\.\.\.\.$") as info:
        parse_space(text, "s", where="s")
    assert len(str(info.value)) < 200


def test_every_shipped_space_loads_by_its_name() -> None:
    assert {"adamw", "lion", "sgd", "wide"} <= set(space_names())
    assert [load_space(name).name for name in space_names()] == list(space_names())


def test_auto_is_the_wide_space() -> None:
    assert load_space("auto") == load_space("wide")


def test_a_file_of_ones_own_is_named_after_itself(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(SMALL, encoding="utf-8")

    assert load_space(path) == parse_space(SMALL, "mine")
    assert load_space(str(path)) == load_space(path)


def test_an_error_in_a_file_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_text("optimizer: sgd\nlr: 1", encoding="utf-8")
    with pytest.raises(SpaceError, match=f"^{re.escape(str(path))}:2: unknown key 'lr' in a space. "):
        load_space(path)


def test_an_unknown_space_names_the_nearest() -> None:
    with pytest.raises(
        UnknownNameError, match=r"^unknown space 'adamww'. Did you mean 'adamw'\? Allowed: adafactor, adamw, "
    ):
        load_space("adamww")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"missing.yaml: No such file or directory.$"):
        load_space(tmp_path / "missing.yaml")


def test_a_folder_is_no_space(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(UnknownNameError, match=r"folder.yaml: Is a directory.$"):
        load_space(tmp_path / "folder.yaml")


def test_a_path_with_a_zero_byte_is_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"^cannot read the space 'a.x00.yaml': "):
        load_space("a\x00.yaml")


def test_binary_rubbish_is_no_space(tmp_path: Path) -> None:
    path = tmp_path / "rubbish.yaml"
    path.write_bytes(bytes(range(256)))
    with pytest.raises(SpaceError, match=r"rubbish.yaml: not a text file in UTF-8.$"):
        load_space(path)


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(SMALL, encoding="utf-8-sig")

    assert load_space(path) == parse_space(SMALL, "mine")


@pytest.mark.slow
@FAST
@given(spaces(), st.lists(st.text(max_size=20), max_size=3))
def test_a_settled_space_comes_back_from_json(space: Space, notes: list[str]) -> None:
    settled = SettledSpace(space, tuple(notes))
    assert settled_from_dict(json.loads(json.dumps(settled_to_dict(settled)))) == settled


def test_only_what_ships_with_opttune_has_a_shipped_name() -> None:
    assert [shipped_name(each) for each in ("auto", "lion", "lion.yaml", load_space("lion"))] == [
        "auto",
        "lion",
        "",
        "",
    ]
