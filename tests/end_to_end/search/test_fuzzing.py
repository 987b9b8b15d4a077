"""Random bytes, texts and values as input: each is accepted or refused with an error of opttune's, never a traceback.

`OPTTUNE_FUZZ_EXAMPLES` sets how many inputs of each kind are tried; CI tries a few hundred.
"""

import os
import random
from contextlib import redirect_stderr, redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opttune.catalog.check import check_recipe
from opttune.cli.parser import main
from opttune.errors import OpttuneError
from opttune.outcome import Outcome
from opttune.recipe import Recipe
from opttune.space.parse import parse_space
from opttune.space.recipe_file import load_recipe
from tests.support.searches import TINY, WILD

EXAMPLES = int(os.environ.get("OPTTUNE_FUZZ_EXAMPLES", "150"))
many = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)

WORDS = """
optimizer schedule groups adamw sgd lion muon cosine constant linear plateau lr betas weight_decay momentum low high
log prior choices source default name warmup_fraction description precision gradient_clip_norm fields rules match
accumulate_grad_batches layer_decay no_decay_norm_bias training include null true .nan .inf -1 0 1e-3 1e400 auto
lr_ratio spaces search show check list --json --max-steps --space --budget --trainer --seed --engine --workers
"""
words = st.sampled_from(WORDS.split())
scalars = st.none() | st.booleans() | st.integers() | st.floats() | words | st.text(max_size=8) | st.binary(max_size=4)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(words | st.text(max_size=5) | st.integers(), inner, max_size=4)
    ),
    max_leaves=12,
)
RECIPE: dict[str, Any] = {
    "optimizer": {"name": "adamw", "lr": 3e-4, "betas": [0.9, 0.95], "weight_decay": 0.1},
    "schedule": {"name": "cosine", "warmup_fraction": 0.05},
    "groups": {"no_decay_norm_bias": True, "layer_decay": None, "rules": []},
    "gradient_clip_norm": 1.0,
    "accumulate_grad_batches": 1,
    "precision": None,
}


def damaged(text: str, seed: int) -> str:
    """Return a text with some of its lines and characters moved, dropped or exchanged."""
    rng = random.Random(seed)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(text))
        end = min(len(text), place + rng.randint(0, 12))
        insert = rng.choice(
            [
                "",
                " ",
                "\n",
                ":",
                "{",
                "}",
                "[",
                "-",
                "#",
                "'",
                "&a",
                "*a",
                "!!python/object:os.system",
                "\0",
                "1e999",
                "é",
            ]
        )
        text = text[:place] + insert + text[end:]
        if not text:
            return text
    return text


def planted(tree: Any, value: Any, path: list[int]) -> Any:
    """Return a tree with a value in place of one of its branches."""
    if not path or not isinstance(tree, dict) or not tree:
        return value
    name = sorted(tree)[path[0] % len(tree)]
    return {**tree, name: planted(tree[name], value, path[1:])}


@many
@given(st.sampled_from([TINY, WILD]), st.integers(0, 2**32))
def test_a_damaged_space_file(text: str, seed: int) -> None:
    with suppress(OpttuneError):
        parse_space(damaged(text, seed), "fuzzed")


@many
@given(st.text(max_size=200))
def test_any_text_as_a_space_file(text: str) -> None:
    with suppress(OpttuneError):
        parse_space(text, "fuzzed")


@many
@given(values, st.lists(st.integers(0, 9), max_size=3))
def test_a_recipe_with_any_value_anywhere(value: Any, path: list[int]) -> None:
    with suppress(OpttuneError):
        recipe = Recipe.from_dict(planted(RECIPE, value, path))
        check_recipe(recipe)
        assert Recipe.from_dict(recipe.to_dict()) == recipe


@many
@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_bytes_as_a_recipe_file(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.yaml"
    path.write_bytes(data)
    with suppress(OpttuneError):
        load_recipe(path)


@many
@given(values)
def test_an_outcome_of_anything(value: Any) -> None:
    with suppress(OpttuneError):
        Outcome.from_dict(value)


def run(arguments: list[str], folder: Path) -> int:
    here = Path.cwd()
    os.chdir(folder)
    try:
        with redirect_stderr(StringIO()), redirect_stdout(StringIO()):
            return main(arguments)
    except SystemExit as err:
        # what argparse does with bad arguments, and after --help
        return int(err.code or 0)
    finally:
        os.chdir(here)


@many
@given(
    st.lists(
        words | st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), max_size=8), max_size=7
    )
)
def test_any_command_line(tmp_path_factory: pytest.TempPathFactory, arguments: list[str]) -> None:
    # nothing of it trains: there is no model of such a name
    assert run(arguments, tmp_path_factory.getbasetemp()) in (0, 2)


@many
@given(st.sampled_from(["spaces", "optimizers", "schedules"]), st.lists(words | st.text(max_size=6), max_size=3))
def test_any_name_to_look_up(tmp_path_factory: pytest.TempPathFactory, command: str, names: list[str]) -> None:
    arguments = [command, *(["show"] if command == "spaces" else []), *names]
    assert run([argument.replace("\0", "") for argument in arguments], tmp_path_factory.getbasetemp()) in (0, 2)
