import math
import re
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from opttune.yaml_text import MAX_DEPTH, YamlTextError, inline_yaml, read_yaml, write_yaml
from tests.support.strategies import FAST, texts

writable = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@FAST
@given(st.dictionaries(texts, writable, max_size=4))
def test_what_is_written_reads_back_to_the_last_digit(data: dict[str, Any]) -> None:
    assert repr(read_yaml(write_yaml(data)).data) == repr(data)


@FAST
@given(st.floats())
def test_every_float_reads_back_to_the_last_digit(number: float) -> None:
    assert repr(read_yaml(write_yaml({"lr": number})).data) == repr({"lr": number})


@FAST
@given(st.dictionaries(texts, writable, max_size=4))
def test_other_yaml_readers_read_the_same(data: dict[str, Any]) -> None:
    assert repr(yaml.safe_load(write_yaml(data))) == repr(data)


@FAST
@given(st.text())
def test_any_text_is_read_or_refused_with_its_line(text: str) -> None:
    assert re.fullmatch(r"|[0-9]+: .+\.", _problem(text))


@FAST
@given(st.text(alphabet="[]{}:,-?&*!|>'\"%@`#~<= \n\t\\xuU0a19.", max_size=60))
def test_any_heap_of_yaml_signs_is_read_or_refused_with_its_line(text: str) -> None:
    assert re.fullmatch(r"|[0-9]+: .+\.", _problem(text))


def _problem(text: str) -> str:
    try:
        read_yaml(text)
    except YamlTextError as err:
        return str(err)
    return ""


@FAST
@given(texts)
def test_any_header_leaves_the_data_readable(header: str) -> None:
    assert read_yaml(write_yaml({"lr": 1}, header)).data == {"lr": 1}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E-3", 1e-3),
        ("1e4", 1e4),
        ("-1.5e+3", -1500.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("+5", 5),
        ("010", 10),
        (".inf", math.inf),
        ("-.inf", -math.inf),
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("", None),
        # what YAML 1.1 takes for something else, and a person does not
        ("on", "on"),
        ("yes", "yes"),
        ("True", "True"),
        ("0x10", "0x10"),
        ("0o17", "0o17"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2024-01-31", "2024-01-31"),
        ("'1e-4'", "1e-4"),
    ],
)
def test_a_scalar_is_what_it_looks_like(text: str, value: Any) -> None:
    assert repr(read_yaml(f"key: {text}").data["key"]) == repr(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb:\n  a: 2\n  a: 3", "4: key 'a' is repeated (first: line 3)."),
        ("a: &x 1\nb: *x", "2: aliases (*x) are not supported."),
        ("a: !!int five", "1: tags are not supported, got 'tag:yaml.org,2002:int'."),
        ("a: 1\nb: !python/name:os.system x", "2: tags are not supported, got '!python/name:os.system'."),
        ("a:\n\t- b", "2: not valid YAML: while scanning for the next token, found character '\\t' that cannot"),
        ("a: 1\nb: \x00\x1b", "2: not valid YAML: the character '\\x00' is not allowed."),
        ('a: 1\nb: "\\UFFFFFFFF"', "2: not valid YAML."),
        ("a: " + "9" * 20, "1: the whole number '99999999999999999999' does not fit in 64 bits."),
        ("a: " + "9" * 9999, "1: the whole number '99999"),
        ("a: 1\n---\nb: 2", "2: not valid YAML: expected a single document in the stream"),
        ("a:\n" + "[" * 10_000, "2: not valid YAML: "),
        ("? [a]\n: 1", "1: a key must be a plain word."),
        ("a:\n " + "[" * 1000, f"2: mappings and lists are nested more than {MAX_DEPTH} deep."),
    ],
)
def test_what_is_not_supported_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(YamlTextError, match="^" + re.escape(message)):
        read_yaml(text)


def test_an_empty_text_holds_nothing() -> None:
    assert read_yaml("").data is None
    assert read_yaml("# a comment\n").data is None


def test_every_key_has_its_line() -> None:
    document = read_yaml("# header\na:\n  b: {c: 1}\nd: [1, {e: 2}]\n")

    lines = [document.line(path) for path in (("a",), ("a", "b", "c"), ("d",), ("d", "1", "e"))]
    assert lines == [2, 3, 4, 4]


def test_a_key_without_a_line_has_the_line_of_the_one_above() -> None:
    document = read_yaml("\na:\n  b: 1")

    assert document.line(("a", "missing", "too")) == 2
    assert document.line(("missing",)) == 1


def test_a_section_is_on_one_line_below_the_header() -> None:
    text = write_yaml({"optimizer": {"name": "adamw", "lr": 1e-5}, "precision": None}, header="Best of 3.\n\nTrain on.")

    assert text == "# Best of 3.\n#\n# Train on.\noptimizer: {name: adamw, lr: 1.0e-05}\nprecision: null\n"


def test_the_same_list_twice_is_written_out_twice() -> None:
    shared = [0.9, 0.999]

    assert write_yaml({"both": {"a": shared, "b": shared}}) == "both: {a: [0.9, 0.999], b: [0.9, 0.999]}\n"


@FAST
@given(writable)
def test_a_value_on_one_line_is_that_value(data: Any) -> None:
    text = inline_yaml(data)

    assert text.splitlines() == [text]
    assert repr(read_yaml(text).data) == repr(data)


def test_a_value_on_one_line_is_yaml() -> None:
    assert inline_yaml([True, None, "1e-4", 0.1]) == "[true, null, '1e-4', 0.1]"


def test_in_blocks_what_holds_others_is_spread_and_reads_back() -> None:
    data = {"trainer": {"callbacks+": [{"class_path": "a.B", "init_args": {"x": {"lr": 1e-3, "nesterov": True}}}]}}
    text = write_yaml(data, in_blocks=True)

    assert text.splitlines() == [
        "trainer:",
        "  callbacks+:",
        "  - class_path: a.B",
        "    init_args:",
        "      x: {lr: 0.001, nesterov: true}",
    ]
    assert read_yaml(text).data == data
