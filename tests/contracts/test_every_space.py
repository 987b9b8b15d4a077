from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import optuna
import pytest

from opttune.build.optimizer import build_optimizer
from opttune.catalog import check_recipe, find_optimizer
from opttune.recipe import Groups, Recipe
from opttune.space.model import Choice, Range, Space
from opttune.space.parse import parse_space, space_names
from opttune.space.sample import default_parameters, sample_recipe
from opttune.yaml_text import write_yaml
from tests.support.optimizer_tasks import mlp

FOLDER = Path(__file__).parents[2] / "search_spaces"
PATHS = sorted(FOLDER.glob("*.yaml"))
FIELDS = [
    pytest.param(field, id=f"{path.stem}:{name}")
    for path in PATHS
    for name, field in parse_space(path.read_text(encoding="utf-8"), path.stem, where=str(path)).parameters()
    if name not in ("optimizer", "schedule")
]

optuna.logging.set_verbosity(optuna.logging.WARNING)
every_space = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
every_field = pytest.mark.parametrize("field", FIELDS)


def read(path: Path) -> Space:
    return parse_space(path.read_text(encoding="utf-8"), path.stem, where=str(path))


PROMISED = {
    "adamw": ("adamw", 1e-4, 5e-4),
    "adamw_pretrain": ("adamw", 1e-4, 6e-4),
    "finetune": ("adamw", 1e-5, 1e-4),
    "lora": ("adamw", 1e-4, 5e-4),
    "vision_sgd": ("sgd", 1e-2, 0.1),
}
NAMED = {
    *("adamw", "adamw_pretrain", "finetune", "lora", "lion", "muon", "soap", "schedule_free", "adafactor", "prodigy"),
    *("sophia", "shampoo", "lamb_large_batch", "vision_sgd", "vision_adamw", "rnn", "rl", "memory_constrained"),
    *("small_data", "wide"),
}


def test_every_file_is_a_shipped_space() -> None:
    assert PATHS
    assert tuple(path.stem for path in PATHS) == space_names()
    assert set(space_names()) >= NAMED


@every_space
def test_the_header_says_what_it_is_for_where_it_is_from_and_what_it_costs(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    header = text[: text.index("description:")]

    assert all(line.startswith("#") for line in header.splitlines())
    for what in ("# For:", "# From:", "# Cost:"):
        assert what in header


@every_space
def test_the_description_is_one_line(path: Path) -> None:
    description = read(path).description

    assert description
    assert len(description.splitlines()) == 1


@every_field
def test_every_range_and_choice_names_its_source(field: Range | Choice) -> None:
    # a source that names nothing but an author is none: where it is a judgement, it says so and why
    assert len(field.source) >= 15


@every_space
def test_no_field_is_repeated(path: Path) -> None:
    names = [name for name, _ in read(path).parameters()]

    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", PROMISED)
def test_the_customary_ranges_are_what_they_are_called_for(name: str) -> None:
    optimizer, low, high = PROMISED[name]
    branch = read(FOLDER / f"{name}.yaml").optimizers[0]
    lr = branch.get("lr")

    assert isinstance(lr, Range)
    assert (branch.name, lr.low, lr.high, lr.scale) == (optimizer, low, high, "log")


@every_space
def test_what_clips_by_itself_is_not_clipped_and_what_needs_no_schedule_has_none(path: Path) -> None:
    space = read(path)
    rows = [find_optimizer(branch.name) for branch in space.optimizers]

    if any(row.own_clipping for row in rows):
        assert "gradient_clip_norm" not in dict(space.training)
    if any(row.own_schedule for row in rows):
        assert [branch.name for branch in space.schedules] == ["constant"]
    for row, branch in zip(rows, space.optimizers, strict=True):
        assert isinstance(branch.rate, Range) != row.fixed_lr


@every_space
def test_lion_takes_smaller_rates_and_more_decay_than_adamw_beside_it(path: Path) -> None:
    branches = {branch.name: branch for branch in read(path).optimizers}
    for name in ("", "_8bit"):
        adamw, lion = branches.get(f"adamw{name}"), branches.get(f"lion{name}")
        if adamw is None or lion is None:
            continue
        for field, sign in (("lr", 1), ("weight_decay", -1)):
            theirs, its = adamw.get(field), lion.get(field)
            assert isinstance(theirs, Range)
            assert isinstance(its, Range)
            assert 2.99 <= (theirs.centre / its.centre) ** sign <= 10.001


@every_field
def test_every_range_starts_from_a_prior_within_it(field: Range | Choice) -> None:
    if isinstance(field, Range):
        assert field.prior is not None
        assert field.low <= field.prior <= field.high
    else:
        assert field.centre in field.choices


@every_space
def test_50_random_recipes_pass_the_catalog_and_build(path: Path) -> None:
    space = read(path)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(50):
        _check_and_build(sample_recipe(space, study.ask()))


@every_space
def test_the_default_recipe_of_every_optimizer_passes_the_catalog_and_builds(path: Path) -> None:
    space = read(path)
    for index, branch in enumerate(space.optimizers):
        recipe = sample_recipe(space, optuna.trial.FixedTrial(default_parameters(space, index)))
        assert recipe.optimizer.name == branch.name
        _check_and_build(recipe)


def _check_and_build(recipe: Recipe) -> None:
    check_recipe(recipe)
    info = find_optimizer(recipe.optimizer.name)
    if info.extra and find_spec(str(info.class_path).partition(".")[0]) is None:
        return
    if info.is_own:
        return
    # of what the groups hold other tests tell
    optimizer = build_optimizer(replace(recipe, groups=Groups()), mlp(), total_steps=100)
    rates = {recipe.optimizer["lr"]}
    rates |= {recipe.optimizer["lr"] * recipe.optimizer[option] for option in info.lr_ratios.values()}  # type: ignore[operator]
    assert {group["lr"] for group in optimizer.param_groups} == rates


@every_space
def test_a_space_comes_back_from_yaml_without_loss(path: Path) -> None:
    space = read(path)

    assert parse_space(write_yaml(space.to_dict()), space.name) == space
