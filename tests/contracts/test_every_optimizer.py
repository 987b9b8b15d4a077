"""What holds for every optimizer of the catalog: adding a row adds its tests."""

import inspect
import io
import pickle
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from opttune.build.load import load_class
from opttune.build.optimizer import build_optimizer, describe_groups
from opttune.build.schedule import build_scheduler
from opttune.catalog import find_optimizer, optimizer_names
from opttune.catalog.info import OptimizerInfo
from opttune.catalog.optimizers import OPTIMIZERS
from opttune.catalog.ranges import SearchRange
from opttune.catalog.recorded_costs import recorded_costs
from opttune.errors import MissingExtraError, ModelError, RecipeError
from opttune.recipe import Groups, Part, Recipe, Rule
from tests.support.optimizer_tasks import TASKS, train

NAMES = tuple(info.name for info in OPTIMIZERS)
STEPS = 20


@pytest.fixture(params=NAMES)
def info(request: pytest.FixtureRequest) -> OptimizerInfo:
    row = find_optimizer(request.param)
    try:
        load_class(row)
    except MissingExtraError as err:
        pytest.skip(str(err))
    return row


def short_recipe(info: OptimizerInfo) -> Recipe:
    """The default recipe, its rate where the row puts the prior's mode for a short training."""
    lr = info.options[0].searchable.get("lr")
    return Recipe(Part(info.name, {"lr": lr.centre_for(STEPS)} if isinstance(lr, SearchRange) else {}))


@pytest.mark.parametrize("task", TASKS)
def test_it_builds_and_lowers_the_loss_in_20_steps(info: OptimizerInfo, task: str) -> None:
    model, inputs, labels = TASKS[task].make()
    losses = train(info, build_optimizer(short_recipe(info), model, STEPS), model, inputs, labels, STEPS)
    assert max(losses[-3:]) < losses[0]


@pytest.mark.parametrize("task", ["mlp", "transformer"])
def test_saved_loaded_and_continued_equals_an_uninterrupted_run(info: OptimizerInfo, task: str) -> None:
    model, inputs, labels = TASKS[task].make()
    optimizer = build_optimizer(short_recipe(info), model, STEPS)
    train(info, optimizer, model, inputs, labels, 7)
    saved = save({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    expected = train(info, optimizer, model, inputs, labels, 8)

    resumed, *_ = TASKS[task].make(seed=5)
    again = build_optimizer(short_recipe(info), resumed, STEPS)
    loaded = torch.load(io.BytesIO(saved), weights_only=not info.weights_only_unsafe)
    resumed.load_state_dict(loaded["model"])
    again.load_state_dict(loaded["optimizer"])
    assert train(info, again, resumed, inputs, labels, 8) == expected


def test_it_says_so_where_its_state_cannot_be_loaded_as_weights_only(info: OptimizerInfo) -> None:
    model, inputs, labels = TASKS["mlp"].make()
    optimizer = build_optimizer(short_recipe(info), model, STEPS)
    train(info, optimizer, model, inputs, labels, 2)
    saved = save(optimizer.state_dict())
    if info.weights_only_unsafe:
        with pytest.raises(pickle.UnpicklingError):
            torch.load(io.BytesIO(saved), weights_only=True)
    else:
        torch.load(io.BytesIO(saved), weights_only=True)


def test_listed_state_bytes_are_those_measured(info: OptimizerInfo) -> None:
    torch.manual_seed(0)
    first, second = (nn.Linear(32, 256), nn.LayerNorm(256)), (nn.Linear(256, 256), nn.LayerNorm(256))
    model = nn.Sequential(*first, nn.ReLU(), *second, nn.ReLU(), nn.Linear(256, 10))
    optimizer = build_optimizer(Recipe(Part(info.name)), model, STEPS)
    train(info, optimizer, model, torch.randn(16, 32), torch.randint(0, 10, (16,)), 2)
    parameters = list(model.parameters())
    measured = state_bytes([optimizer.state[parameter] for parameter in parameters], {id(p) for p in parameters})
    numbers = sum(parameter.numel() for parameter in parameters)
    assert measured / numbers == pytest.approx(info.state_bytes, rel=0.01, abs=0.005)


@pytest.mark.parametrize("name", NAMES)
def test_what_its_step_costs_was_measured_or_why_not_is_said(name: str) -> None:
    # python benchmarks/step_costs.py
    for table in recorded_costs():
        assert (name in table.costs) != bool(table.left_out.get(name)), table.device
    measured = [table.costs[name] for table in recorded_costs() if name in table.costs]
    assert measured
    assert all(0 < cost.low <= cost.ratio <= cost.high for cost in measured)


def test_an_unknown_option_is_refused(info: OptimizerInfo) -> None:
    recipe = Recipe(Part(info.name, {"learning_rat": 0.1}))
    with pytest.raises(RecipeError, match=rf"optimizer '{info.name}' takes no 'learning_rat'\. (Did|Allowed)"):
        build_optimizer(recipe, nn.Linear(2, 2), STEPS)


def test_every_argument_is_one_of_its_class(info: OptimizerInfo) -> None:
    # several classes swallow what they do not know in **kwargs
    taken = inspect.signature(load_class(info)).parameters
    passed = {option.name for option in info.options} - set(info.lr_ratios.values())
    passed |= {*info.fixed, *info.tied, *info.lr_ratios, info.total_steps_option} - {""}
    assert passed <= set(taken)


def test_each_trainable_parameter_is_in_exactly_one_group(info: OptimizerInfo) -> None:
    model, *_ = TASKS["transformer"].make()
    model.token_embedding.weight.requires_grad_(False)
    optimizer = build_optimizer(Recipe(Part(info.name), groups=Groups(no_decay_embeddings=True)), model, STEPS)
    held = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(held) == sorted(id(parameter) for parameter in model.parameters() if parameter.requires_grad)
    assert describe_groups(optimizer, model)[-1].group == "not trained"


def test_groups_with_rates_of_their_own_train_or_are_refused(info: OptimizerInfo) -> None:
    model, inputs, labels = TASKS["transformer"].make()
    recipe = replace(short_recipe(info), groups=Groups(layer_decay=0.8, rules=(Rule("head", lr_mult=2.0),)))
    if info.one_lr:
        with pytest.raises(ModelError, match="works with one learning rate"):
            build_optimizer(recipe, model, STEPS)
        return
    optimizer = build_optimizer(recipe, model, STEPS)
    peak = max(group["lr"] for group in optimizer.param_groups)
    assert len({group["lr"] for group in optimizer.param_groups}) >= 4
    scheduler = build_scheduler(Part("linear"), optimizer, STEPS)
    losses = []
    for _ in range(STEPS):
        losses += train(info, optimizer, model, inputs, labels, 1)
        scheduler.step()
    assert losses[-1] < losses[0]
    assert max(group["lr"] for group in optimizer.param_groups) < peak


def test_norms_and_biases_go_without_weight_decay(info: OptimizerInfo) -> None:
    model, *_ = TASKS["cnn"].make()
    optimizer = build_optimizer(Recipe(Part(info.name, {"weight_decay": 0.1})), model, STEPS)
    for group in optimizer.param_groups:
        flat = all(parameter.ndim == 1 for parameter in group["params"])
        decays = {value for key, value in group.items() if key.startswith("weight_decay") and isinstance(value, float)}
        assert decays == {0.0 if flat else 0.1}


def test_its_row_is_complete(info: OptimizerInfo) -> None:
    assert info.options[0].name == "lr"
    assert info.source
    assert info.state_bytes is not None
    assert ("lr" in info.options[0].searchable) != info.fixed_lr
    for option in info.options:
        option.check(option.default, "default")
        assert option.help
        assert len(option.search) in (0, len(option.fields))


def test_every_range_holds_its_default_and_names_its_source(info: OptimizerInfo) -> None:
    for option in info.options:
        defaults = option.default if isinstance(option.default, tuple) else (option.default,)
        for default, search in zip(defaults, option.search, strict=False):
            if search is not None:
                assert search.source
                assert search.from_budget in (0, 10, 25)
                check_default(search, default)


@pytest.mark.parametrize("name", [info.name for info in OPTIMIZERS if info.extra])
def test_a_missing_extra_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row = find_optimizer(name)
    monkeypatch.setitem(sys.modules, str(row.class_path).split(".")[0], None)
    for module in [key for key in sys.modules if key.startswith("bitsandbytes.")]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'opttune\[{row.extra}\]'"):
        build_optimizer(Recipe(Part(name)), nn.Linear(2, 2), STEPS)


def test_the_catalog_lists_every_row() -> None:
    assert set(NAMES) <= set(optimizer_names())


def check_default(search: Any, default: Any) -> None:
    if isinstance(search, SearchRange):
        centres = {search.centre, search.short_centre or search.centre}
        assert all(0 <= search.place(centre) <= 1 for centre in centres)
        assert default in search.also or 0 <= search.place(default) <= 1
    else:
        assert default in search.values
        assert search.centre in search.values


def save(state: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def state_bytes(state: Any, seen: set[int]) -> int:
    """Bytes of all tensors in a nest of containers and plain objects."""
    if id(state) in seen:
        return 0
    seen.add(id(state))
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, dict):
        return sum(state_bytes(value, seen) for value in state.values())
    if isinstance(state, list | tuple):
        return sum(state_bytes(value, seen) for value in state)
    return state_bytes(vars(state), seen) if hasattr(state, "__dict__") else 0
