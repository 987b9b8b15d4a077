import pytest

from opttune.errors import InputError
from opttune.export.source import take_out


def run(module: str, *names: str) -> dict[str, object]:
    imports, definitions = take_out(module, names)
    text = "\n".join([*imports, *definitions])
    assert "opttune" not in text
    found: dict[str, object] = {}
    exec(text, found)
    return found


def test_what_a_function_needs_comes_along_and_nothing_else() -> None:
    found = run("opttune.build.shapes", "one_cycle")

    assert {"one_cycle", "cosine", "_between", "cos", "pi"} <= found.keys()
    assert "linear" not in found
    assert "floor" not in found
    assert found["one_cycle"](0.3) == 1.0  # type: ignore[operator]


def test_constants_come_along() -> None:
    assert run("opttune.build.shapes", "step")["_ROUNDING"] == 1e-9


def test_docstrings_are_cut_to_their_first_line() -> None:
    _, definitions = take_out("opttune.build.lamb", ["Lamb"])

    assert "AdamW's update, scaled for each tensor by the tensor's norm." in definitions[-1]
    assert "Args:" not in definitions[-1]


def test_errors_become_pythons_own() -> None:
    _, definitions = take_out("opttune.build.traits", ["parameter_traits"])

    assert any("raise ValueError(" in definition for definition in definitions)
    assert not any("ModelError" in definition for definition in definitions)


def test_what_needs_the_rest_of_opttune_is_refused() -> None:
    with pytest.raises(InputError, match=r"needs .* of opttune\.build\.depth"):
        take_out("opttune.build.groups", ["plan_groups"])
