import pytest

from opttune import errors
from opttune.errors import OpttuneError, one_of, shown

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_is_an_opttune_error(kind: type[Exception]) -> None:
    assert issubclass(kind, OpttuneError)


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_is_named_in_the_overview(kind: type[Exception]) -> None:
    assert kind.__name__ in str(errors.__doc__)


def test_the_nearest_name_comes_first() -> None:
    assert one_of(["sgd", "adamw"], "adam_w") == "Did you mean 'adamw'? Allowed: adamw, sgd."


def test_no_nearest_name_is_made_up() -> None:
    assert one_of(["sgd", "adamw"], "zzz") == "Allowed: adamw, sgd."


def test_a_long_list_is_cut_but_still_names_the_nearest() -> None:
    names = [f"name{index:02}" for index in range(30)]

    text = one_of(names, "nam29")

    assert text.startswith("Did you mean 'name29'? Allowed: name00, ")
    assert text.endswith("name11, ... (30 in all).")


def test_where_nothing_is_allowed_it_says_so() -> None:
    assert one_of([], "lr") == "None is allowed."


def test_a_long_value_is_shown_on_one_short_line() -> None:
    text = shown("line\n" * 1000)

    assert len(text) == 100
    assert "\n" not in text


@pytest.mark.slow
def test_a_value_that_python_cannot_print_is_shown_all_the_same() -> None:
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]

    assert shown(10**5000) == "a huge int"
    assert shown(nested) == "a huge list"
