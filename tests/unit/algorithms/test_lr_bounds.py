import pytest

from opttune.algorithms.lr_bounds import cap_learning_rates
from opttune.algorithms.observations import Observation
from opttune.algorithms.proposal import SamplerSettings, propose
from opttune.space.model import Choice, Range, Space
from tests.support.searches import make_space

TWO = """
optimizer:
  sgd: {lr: {low: 1e-3, high: 10, log: true, prior: 1.0, source: test}}
  adamw: {lr: {low: 1e-5, high: 1e-1, log: true, source: test}}
schedule: {constant: {}}
"""


def sgd(lr: float, *values: float, died: float | None = None) -> Observation:
    return Observation({"optimizer": "sgd", "sgd.lr": lr}, values, None if died is None else 0.02, died)


def range_of(space: Space, name: str) -> Range:
    branch = next(branch for branch in space.optimizers if branch.name == name)
    field = branch.get("lr")
    assert isinstance(field, Range)
    return field


@pytest.mark.parametrize(
    ("observations", "high"),
    [
        ([], 10),
        ([sgd(0.1, 0.5)], 10),
        ([sgd(5.0, died=5.0)], 4.5),
        # it died within its warmup
        ([sgd(5.0, died=2.0)], 1.8),
        # another lived at more than that
        ([sgd(5.0, died=2.0), sgd(3.0, 0.5)], 4.5),
        # another lived at more than all of it
        ([sgd(5.0, died=2.0), sgd(6.0, 0.5)], 10),
        ([sgd(5.0, died=5.0), sgd(2.0, died=2.0), sgd(3.0, 0.5)], 4.5),
        ([sgd(5.0, died=5.0), sgd(2.0, died=2.0)], 1.8),
        # something of the range is left
        ([sgd(2e-3, died=1e-3)], 1.3e-3),
    ],
)
def test_a_rate_at_which_all_diverged_bounds_the_range(observations: list[Observation], high: float) -> None:
    space = cap_learning_rates(make_space(TWO), observations)
    assert range_of(space, "sgd").high == pytest.approx(high)
    assert range_of(space, "sgd").prior == pytest.approx(min(1.0, high))
    assert range_of(space, "adamw").high == 1e-1


def test_of_choices_those_below_are_left() -> None:
    space = make_space("optimizer: {sgd: {lr: {choices: [0.1, 1.0, 10.0]}}}")
    bounded = cap_learning_rates(space, [Observation({"sgd.lr": 1.0}, (), 0.02, 1.0)])
    assert bounded.optimizers[0].get("lr") == Choice((0.1,))
    assert cap_learning_rates(space, [Observation({"sgd.lr": 0.1}, (), 0.02, 0.1)]) == space


def test_a_trial_that_stalled_bounds_nothing() -> None:
    space = make_space(TWO)
    assert cap_learning_rates(space, [Observation({"optimizer": "sgd", "sgd.lr": 1e-3}, (), 0.1, None)]) is space


def test_later_draws_stay_below() -> None:
    space = make_space(TWO)
    observations = [sgd(1.0, died=0.5), sgd(0.01, 0.5), sgd(0.02, 0.4), sgd(0.05, 0.3)]
    tried = [dict(one.parameters) for one in observations]
    for number in range(4, 64):
        drawn = propose(space, number, 0, observations, tried, SamplerSettings())
        assert float(drawn.get("sgd.lr", 0.0)) <= 0.45
