"""The knobs on a module's own optimizer act in each step alone."""

from typing import Any

import pytest
import torch
from torch import nn

from opttune.build.own_knobs import OwnKnobs, knobs_of, largest_rate, own_values
from opttune.catalog.lookup import find_optimizer
from opttune.errors import ModelError
from opttune.recipe import Part


def net() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 1)


def train(optimizer: torch.optim.Optimizer, model: nn.Linear, steps: int = 5, after: Any = None) -> list[float]:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(4, 3, generator=generator)).square().mean().backward()
        optimizer.step()
        if after is not None:
            after()
    return model.weight.flatten().tolist()


def moved(make: Any, factors: dict[str, float], **how: Any) -> list[float]:
    model = net()
    optimizer = make(model)
    OwnKnobs(optimizer, Part("own", factors))
    return train(optimizer, model, **how)


def written(make: Any) -> list[float]:
    model = net()
    return train(make(model), model)


@pytest.mark.parametrize(
    ("factors", "there", "written_out"),
    [
        ({"lr_factor": 2.0}, {"lr": 0.1}, {"lr": 0.2}),
        ({"weight_decay_factor": 0.5}, {"weight_decay": 0.2}, {"weight_decay": 0.1}),
        ({"weight_decay_factor": 0.0}, {"weight_decay": 0.2}, {"weight_decay": 0.0}),
        # averages of 10 steps become averages of 20, of 1000 of 500
        ({"beta1_horizon_factor": 2.0}, {"betas": (0.9, 0.99)}, {"betas": (1 - 1 / (2 * (1 / (1 - 0.9))), 0.99)}),
        ({"beta2_horizon_factor": 0.5}, {"betas": (0.9, 0.99)}, {"betas": (0.9, 1 - 1 / (0.5 * (1 / (1 - 0.99))))}),
        (
            {"lr_factor": 0.5, "beta1_horizon_factor": 0.2, "weight_decay_factor": 3.0},
            {"lr": 0.1, "betas": (0.5, 0.9), "weight_decay": 0.1},
            {"lr": 0.05, "betas": (0.0, 0.9), "weight_decay": 0.1 * 3.0},
        ),
    ],
)
def test_it_trains_as_if_the_options_were_written_so(
    factors: dict[str, float], there: dict[str, Any], written_out: dict[str, Any]
) -> None:
    assert moved(lambda model: torch.optim.AdamW(model.parameters(), **there), factors) == written(
        lambda model: torch.optim.AdamW(model.parameters(), **{**there, **written_out})
    )


def test_momentum_is_moved_by_the_steps_it_remembers() -> None:
    def sgd(model: nn.Linear, momentum: float) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=0.1, momentum=momentum)

    longer = 1 - 1 / (3 * (1 / (1 - 0.9)))
    assert moved(lambda model: sgd(model, 0.9), {"momentum_horizon_factor": 3.0}) == written(
        lambda model: sgd(model, longer)
    )


def test_each_group_is_moved_from_where_it_is() -> None:
    def groups(model: nn.Linear, factor: float = 1.0) -> torch.optim.Optimizer:
        rates = zip(model.parameters(), (0.1, 0.001), strict=True)
        return torch.optim.SGD([{"params": [one], "lr": lr * factor} for one, lr in rates], lr=1.0)

    assert moved(groups, {"lr_factor": 4.0}) == written(lambda model: groups(model, 4.0))


def test_between_steps_the_groups_are_the_modules_own_so_that_a_scheduler_is_not_disturbed() -> None:
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, betas=(0.8, 0.99))
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    OwnKnobs(optimizer, Part("own", {"lr_factor": 10.0, "beta1_horizon_factor": 2.0}))
    seen = []

    def after() -> None:
        scheduler.step()
        seen.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["betas"], largest_rate(optimizer)))

    train(optimizer, model, steps=2, after=after)
    assert seen == [(0.05, (0.8, 0.99), 0.5), (0.025, (0.8, 0.99), 0.25)]


def test_nothing_moved_puts_no_hook_on_the_optimizer() -> None:
    optimizer = torch.optim.SGD(net().parameters(), lr=0.1)
    OwnKnobs(optimizer, Part("own", {"lr_factor": 1.0, "weight_decay_factor": 1}))
    assert not optimizer._optimizer_step_pre_hooks
    assert largest_rate(optimizer) == 0.1


def test_a_knob_that_is_removed_moves_nothing_any_more() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    knobs = OwnKnobs(optimizer, Part("own", {"lr_factor": 5.0}))
    assert (knobs.lr_factor, largest_rate(optimizer)) == (5.0, 0.5)
    knobs.remove()
    assert largest_rate(optimizer) == 0.1
    assert train(optimizer, model) == written(lambda other: torch.optim.SGD(other.parameters(), lr=0.1))


def test_a_rate_that_is_a_tensor_is_moved_and_stays_one() -> None:
    def tensor_rate(model: nn.Linear, lr: float = 0.1) -> torch.optim.Optimizer:
        return torch.optim.Adam(model.parameters(), lr=torch.tensor(lr))

    model = net()
    optimizer = tensor_rate(model)
    own = optimizer.param_groups[0]["lr"]
    OwnKnobs(optimizer, Part("own", {"lr_factor": 2.0}))
    assert train(optimizer, model) == written(lambda other: tensor_rate(other, 0.2))
    assert optimizer.param_groups[0]["lr"] is own
    assert float(own) == pytest.approx(0.1)
    assert largest_rate(optimizer) == pytest.approx(0.2)


def test_a_step_with_a_closure_is_moved_too() -> None:
    weight = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    OwnKnobs(optimizer, Part("own", {"lr_factor": 2.0}))

    def closure() -> Any:
        optimizer.zero_grad()
        loss = weight.sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert float(weight.detach()) == pytest.approx(0.8)


def test_the_rate_is_put_back_where_a_step_fails() -> None:
    weight = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    OwnKnobs(optimizer, Part("own", {"lr_factor": 2.0}))

    def closure() -> Any:
        raise RuntimeError("no loss")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="no loss"):
            optimizer.step(closure)
    weight.grad = torch.ones(1)
    optimizer.step()
    assert (float(weight.detach()), optimizer.param_groups[0]["lr"]) == (pytest.approx(0.8), 0.1)


@pytest.mark.parametrize("is_in_step", [True, False])
def test_a_group_that_is_added_later_is_moved_from_the_next_step_on(is_in_step: bool) -> None:
    weight, late = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    OwnKnobs(optimizer, Part("own", {"lr_factor": 2.0}))

    def add() -> float:
        optimizer.add_param_group({"params": [late], "lr": 0.01})
        return 0.0

    if is_in_step:
        optimizer.step(add)
    else:
        add()
    weight.grad = late.grad = torch.ones(1)
    optimizer.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.01]
    assert float(late.detach()) == pytest.approx(0.98)


@pytest.mark.parametrize(
    ("factors", "missing"),
    [
        ({"beta1_horizon_factor": 2.0}, "betas"),
        ({"momentum_horizon_factor": 2.0}, "momentum"),
        ({"weight_decay_factor": 2.0}, "weight_decay"),
    ],
)
def test_an_option_that_it_lacks_is_refused(factors: dict[str, float], missing: str) -> None:
    (name,) = factors
    with pytest.raises(ModelError, match=rf"moves {name} of the module's own optimizer, and SGD has no {missing}\."):
        OwnKnobs(torch.optim.SGD(net().parameters(), lr=0.1), Part("own", factors))


class NoRate(torch.optim.Optimizer):
    def __init__(self, params: Any) -> None:
        super().__init__(params, {"radius": 1.0})

    def step(self, closure: Any = None) -> None: ...


def test_an_optimizer_without_a_rate_has_no_knob_of_it() -> None:
    optimizer = NoRate(net().parameters())
    assert knobs_of(optimizer) == ()
    assert largest_rate(optimizer) == 0.0
    with pytest.raises(ModelError, match="NoRate has no lr"):
        OwnKnobs(optimizer, Part("own", {"lr_factor": 2.0}))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda p: torch.optim.Adam(p), ("lr_factor", "beta1_horizon_factor", "beta2_horizon_factor")),
        (
            lambda p: torch.optim.AdamW(p, betas=(0.0, 0.9)),
            ("lr_factor", "weight_decay_factor", "beta2_horizon_factor"),
        ),
        (lambda p: torch.optim.SGD(p, lr=1.0), ("lr_factor",)),
        (lambda p: torch.optim.RMSprop(p, momentum=0.5), ("lr_factor", "momentum_horizon_factor")),
        (lambda p: torch.optim.LBFGS(p), ("lr_factor",)),
    ],
)
def test_only_what_an_optimizer_uses_can_be_moved(make: Any, expected: tuple[str, ...]) -> None:
    assert knobs_of(make(net().parameters())) == expected


def test_of_several_rates_the_largest_is_where_a_search_begins_and_what_differs_is_left_out() -> None:
    first, second = net().parameters()
    groups = torch.optim.AdamW(
        [{"params": [first], "lr": 1e-4, "weight_decay": 0.0}, {"params": [second], "lr": 1e-2}], betas=(0.9, 0.95)
    ).param_groups
    assert own_values(groups, find_optimizer("adamw")) == {"lr": 1e-2, "beta1": 0.9, "beta2": 0.95}


def test_a_rate_that_a_scheduler_has_lowered_is_read_where_it_began() -> None:
    optimizer = torch.optim.SGD(net().parameters(), lr=0.1, momentum=0.9)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0)
    assert own_values(optimizer.param_groups, find_optimizer("sgd")) == {
        "lr": 0.1,
        "momentum": 0.9,
        "weight_decay": 0.0,
    }


class Decaying(torch.optim.SGD):
    """It lowers its rate itself, in each step."""

    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        for group in self.param_groups:
            group["lr"] *= 0.5
        return loss


def test_what_a_step_itself_changes_stays_changed() -> None:
    weight = nn.Parameter(torch.zeros(1))
    optimizer = Decaying([weight], lr=0.125, momentum=0.75)
    OwnKnobs(optimizer, Part("own", {"lr_factor": 2.0, "momentum_horizon_factor": 2.0}))
    group, seen = optimizer.param_groups[0], []
    for _ in range(3):
        weight.grad = torch.ones(1)
        optimizer.step()
        seen.append((group["lr"], round(largest_rate(optimizer), 6)))
    assert seen == [(0.0625, 0.125), (0.03125, 0.0625), (0.015625, 0.03125)]
    assert group["momentum"] == 0.75


def test_code_that_runs_within_a_step_sees_the_modules_own_rate() -> None:
    # Lightning runs training_step in the closure of a step
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    OwnKnobs(optimizer, Part("own", {"lr_factor": 2.0}))
    seen: list[tuple[float, float]] = []
    before = model.weight.detach().clone()

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        optimizer.param_groups[0]["lr"] = 0.3
        seen.append((optimizer.param_groups[0]["lr"], largest_rate(optimizer)))
        loss = model.weight.sum()
        loss.backward()
        return loss

    optimizer.step(closure)

    assert seen == [(0.3, 0.6)]
    assert optimizer.param_groups[0]["lr"] == 0.3
    assert torch.allclose(before - model.weight, torch.full_like(before, 0.6))


def test_under_one_cycle_the_peak_is_the_rate_and_the_cycled_momentum_is_unknown() -> None:
    weight = nn.Parameter(torch.ones(2))
    adamw = torch.optim.AdamW([weight], lr=1e-3, betas=(0.9, 0.98))
    torch.optim.lr_scheduler.OneCycleLR(adamw, max_lr=2e-3, total_steps=100)

    # the scheduler has set the first rate, 2e-3 / 25, and its own first momentum, 0.95
    assert adamw.param_groups[0]["lr"] == pytest.approx(8e-5)
    assert own_values(adamw.param_groups, find_optimizer("adamw")) == {
        "lr": 2e-3, "beta2": 0.98, "weight_decay": 0.01,
    }  # fmt: skip
