import numpy as np
import pytest

from opttune.algorithms.prior_shift import SHIFTS, posterior, shift_priors, within_ranges, without_priors
from opttune.space.model import Range, Space
from opttune.space.parse import load_space
from tests.support.searches import make_space

TWO = make_space("""
optimizer:
  sgd: {lr: {low: 1e-5, high: 10.0, log: true, prior: 1e-2, source: test}}
  adamw: {lr: {low: 1e-6, high: 1.0, log: true, prior: 1e-3, source: test}}
schedule: {constant: {}}
""")
SMALLER = make_space("""
optimizer:
  sgd: {lr: {low: 1e-5, high: 1e-3, log: true, prior: 1e-4, source: test}}
  adamw: {lr: {low: 1e-6, high: 1.0, log: true, prior: 1e-3, source: test}}
schedule: {constant: {}}
""")
CHOICES = make_space("optimizer: {sgd: {lr: {choices: [0.1, 0.2], source: test}}, adamw: {lr: 1e-3}}")


def rates(space: Space) -> list[Range]:
    return [field for branch in space.optimizers if isinstance(field := branch.get("lr"), Range)]


def priors(space: Space) -> list[float | None]:
    return [field.prior for field in rates(space)]


def test_without_observations_priors_are_most_likely_right_and_off_either_way_alike() -> None:
    likely = posterior()

    assert SHIFTS[likely.argmax()] == 0
    assert likely.sum() == pytest.approx(1)
    assert likely == pytest.approx(likely[::-1])
    assert likely.min() > 0.001


def test_what_explains_the_trials_better_is_more_likely() -> None:
    likely = posterior(np.where(SHIFTS == 1.5, 5.0, 0.0))

    assert SHIFTS[likely.argmax()] == 1.5
    assert likely.sum() == pytest.approx(1)


def test_all_priors_are_moved_alike_and_ranges_stay() -> None:
    moved = shift_priors(TWO, 1.5)

    assert priors(moved) == [0.316, 0.0316]
    assert [(one.low, one.high) for one in rates(moved)] == [(one.low, one.high) for one in rates(TWO)]
    assert shift_priors(TWO, 0.0) == TWO


@pytest.mark.parametrize(("decades", "ends"), [(9.0, [10.0, 1.0]), (-9.0, [1e-5, 1e-6])])
def test_priors_are_moved_as_far_as_ranges_go(decades: float, ends: list[float]) -> None:
    assert priors(shift_priors(TWO, decades)) == ends


def test_ranges_of_another_space_bound_the_priors() -> None:
    bounded = within_ranges(TWO, SMALLER)

    assert priors(bounded) == [1e-3, 1e-3]
    assert rates(bounded)[0].high == 1e-3


def test_without_priors_ranges_stay() -> None:
    bare = without_priors(TWO)

    assert priors(bare) == [None, None]
    assert priors(shift_priors(bare, 1.0)) == [None, None]
    assert priors(within_ranges(bare, SMALLER)) == [None, None]


@pytest.mark.parametrize("space", [CHOICES, load_space("wide")])
def test_what_is_no_learning_rate_of_a_range_stays(space: Space) -> None:
    for changed in (shift_priors(space, 1.0), without_priors(space), within_ranges(space, space)):
        assert changed.schedules == space.schedules
        assert changed.training == space.training
        for new, old in zip(changed.optimizers, space.optimizers, strict=True):
            assert [one for one in new.fields if not isinstance(one[1], Range)] == [
                one for one in old.fields if not isinstance(one[1], Range)
            ]
