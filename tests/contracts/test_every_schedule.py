"""What holds for every schedule of the catalog: adding a row adds its tests."""

import inspect
import io
from pathlib import Path

import pytest
import torch

from opttune.build.load import load_object
from opttune.build.schedule import build_scheduler, multiplier
from opttune.catalog import find_schedule, schedule_names
from opttune.catalog.check import check_recipe
from opttune.catalog.optimizers import OPTIMIZERS
from opttune.catalog.ranges import SearchRange
from opttune.catalog.schedules import SCHEDULES
from opttune.errors import RecipeError
from opttune.recipe import Groups, Part, Recipe
from tests.support import pauses
from tests.support.schedules import PEAKS, rates, sgd

NAMES = tuple(info.name for info in SCHEDULES)
CURVES = tuple(info.name for info in SCHEDULES if not info.follows_monitor)
OPTIONS = {name: {option.name for option in find_schedule(name).options} for name in NAMES}
WARMED = tuple(name for name in CURVES if find_schedule(name).warmup)
FLOORED = tuple(name for name in CURVES if "final_lr_fraction" in OPTIONS[name])
TOTAL = 40


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("total_steps", [1, 2, 7, 1000])
def test_factors_stay_between_0_and_1_and_end_where_they_end(name: str, total_steps: int) -> None:
    factor = multiplier(Part(name), total_steps)
    factors = [factor(step) for step in range(total_steps + 3)]
    assert all(0 <= value <= 1 for value in factors)
    assert factors[total_steps] == factors[-1]


@pytest.mark.parametrize("name", CURVES)
def test_it_reaches_the_peak(name: str) -> None:
    factor = multiplier(Part(name), 1000)
    assert max(factor(step) for step in range(1000)) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("name", WARMED)
def test_the_warmup_rises_in_a_line_from_its_first_step_to_the_peak(name: str) -> None:
    factor = multiplier(Part(name, {"warmup_fraction": 0.1}), 100)
    assert [factor(step) for step in range(11)] == pytest.approx([*(i / 10 for i in range(1, 11)), 1.0])


@pytest.mark.parametrize("name", WARMED)
def test_a_warmup_that_takes_nearly_all_steps_divides_by_nothing(name: str) -> None:
    factor = multiplier(Part(name, {"warmup_fraction": 0.999}), 10)
    assert [factor(step) for step in (0, 9)] == pytest.approx([0.1, 1.0])
    assert 0 <= factor(10) <= 1


@pytest.mark.parametrize("name", [name for name in NAMES if find_schedule(name).warmup])
def test_its_scheduler_gives_each_group_the_warmup(name: str) -> None:
    optimizer = sgd()
    scheduler = build_scheduler(Part(name, {"warmup_fraction": 0.25}), optimizer, TOTAL)
    factors = pytest.approx([i / 10 for i in range(1, 11)])
    seen = rates(optimizer, scheduler, 9)
    for group, peak in enumerate(PEAKS):
        assert [lr[group] / peak for lr in seen] == factors


@pytest.mark.parametrize("name", FLOORED)
def test_it_ends_at_the_final_fraction(name: str) -> None:
    assert multiplier(Part(name, {"final_lr_fraction": 0.07}), 50)(50) == pytest.approx(0.07)


@pytest.mark.parametrize("name", NAMES)
def test_groups_keep_the_ratios_of_their_rates(name: str) -> None:
    optimizer = sgd()
    scheduler = build_scheduler(Part(name), optimizer, TOTAL)
    for _ in range(TOTAL):
        first, second = (group["lr"] for group in optimizer.param_groups)
        assert first * PEAKS[1] == pytest.approx(second * PEAKS[0])
        optimizer.step()
        scheduler.step(*([1.0] if find_schedule(name).follows_monitor else []))  # type: ignore[call-arg]
    assert [group["initial_lr"] for group in optimizer.param_groups] == list(PEAKS)


@pytest.mark.parametrize("name", CURVES)
def test_a_loaded_scheduler_continues_where_it_was(name: str) -> None:
    optimizer = sgd()
    scheduler = build_scheduler(Part(name), optimizer, TOTAL)
    rates(optimizer, scheduler, 9)
    buffer = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}, buffer)
    expected = rates(optimizer, scheduler, 20)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=True)
    again = sgd()
    resumed = build_scheduler(Part(name), again, TOTAL)
    again.load_state_dict(loaded["optimizer"])
    resumed.load_state_dict(loaded["scheduler"])
    assert rates(again, resumed, 20) == expected


@pytest.mark.slow
@pytest.mark.parametrize(("length", "warmup"), [({"max_steps": 20}, 0.3), ({"max_epochs": 3}, 0.0)], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_a_paused_training_follows_it_exactly(name: str, length: dict[str, int], warmup: float, tmp_path: Path) -> None:
    option = find_schedule(name).warmup
    if warmup and option is None:
        pytest.skip("it has no warmup")
    recipe = Recipe(Part("adamw", {"lr": 0.03}), Part(name, {option.name: warmup} if option else {}))
    whole, paused = pauses.both(tmp_path, (3, 8), recipe=recipe, trainer=length)
    assert [outcome.steps for outcome in paused.outcomes] == [3, 8, whole.end.steps]
    pauses.assert_equal(whole, paused)


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_option_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match=f"schedule '{name}' takes no 'gamma'"):
        check_recipe(Recipe(Part("sgd"), Part(name, {"gamma": 0.1})))


@pytest.mark.parametrize("name", NAMES)
def test_its_row_fits_its_function(name: str) -> None:
    info = find_schedule(name)
    parameters = inspect.signature(load_object(info.shape)).parameters
    options = {option.name: option for option in info.options if option.rises != "warmup"}
    given = {"optimizer", "mode", "warmup_steps"} if info.follows_monitor else {"progress"}
    assert set(options) == set(parameters) - given
    for key, option in options.items():
        assert parameters[key].default in (option.default, inspect.Parameter.empty)
        option.check(option.default, "default")
        for search in option.searchable.values():
            assert search.source
            if isinstance(search, SearchRange):
                assert 0 <= search.place(search.centre) <= 1
            else:
                assert option.default in search.values
    assert info.source


@pytest.mark.parametrize("name", NAMES)
def test_no_field_has_a_name_that_a_recipe_uses_elsewhere(name: str) -> None:
    fields = {field for option in find_schedule(name).options for field in option.fields}
    taken = {field for info in OPTIMIZERS for option in info.options for field in option.fields}
    taken |= set(Recipe.__dataclass_fields__) | set(Groups.__dataclass_fields__)
    assert not fields & taken


def test_no_field_of_an_optimizer_has_a_name_of_the_recipes() -> None:
    taken = set(Recipe.__dataclass_fields__) | set(Groups.__dataclass_fields__)
    assert not taken & {field for info in OPTIMIZERS for option in info.options for field in option.fields}


def test_the_catalog_lists_every_row() -> None:
    assert set(NAMES) <= set(schedule_names())
