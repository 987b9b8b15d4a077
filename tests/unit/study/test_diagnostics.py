import pytest

from opttune.recipe import Part, Recipe
from opttune.space.fit import with_reach
from opttune.space.parse import load_space
from opttune.study.diagnostics import edge_warnings, stability
from opttune.trial_record import TrialRecord
from tests.support.records import make_outcome, make_trial
from tests.support.searches import make_space

SPACE = make_space(
    """
description: edges
optimizer:
  sgd:
    lr: {low: 1e-4, high: 1e-1, log: true, prior: 1e-2, source: test}
    momentum: {low: 0.0, high: 0.9, source: test}
schedule: {constant: {}}
gradient_clip_norm: {choices: [1.0, null], source: test}
"""
)


def sgd(**options: float) -> Recipe:
    return Recipe(Part("sgd", options), Part("constant"))


def record(lr: float, value: float | None) -> TrialRecord:
    return make_trial(0, make_outcome(value), recipe=sgd(lr=lr))


def test_a_best_near_an_end_of_its_range_is_called_at_the_edge() -> None:
    (warning,) = edge_warnings(sgd(lr=0.099, momentum=0.5), SPACE, [])

    assert "the best lr 0.099 lies at the upper edge of its range 0.0001..0.1" in warning
    assert "lower edge" in edge_warnings(sgd(lr=1.01e-4, momentum=0.5), SPACE, [])[0]


@pytest.mark.parametrize("recipe", [sgd(lr=0.05, momentum=0.5), sgd(lr=0.01, momentum=0.0)])
def test_the_middle_and_a_natural_zero_are_no_edge(recipe: Recipe) -> None:
    assert edge_warnings(recipe, SPACE, []) == []


def test_the_next_command_is_named() -> None:
    assert edge_warnings(sgd(lr=0.099, momentum=0.5), SPACE, [])[0].endswith(
        "Next: the same command with --space wide."
    )


def test_where_a_line_search_may_go_beyond_the_edge_a_larger_budget_is_the_next_step() -> None:
    warmed = Part("linear", {"warmup_fraction": 0.06})
    (reaching,) = edge_warnings(Recipe(Part("adamw", {"lr": 0.99e-4}), warmed), with_reach(load_space("finetune")), [])
    (walled,) = edge_warnings(Recipe(Part("adamw", {"lr": 0.99e-4}), warmed), load_space("finetune"), [])

    assert "upper edge of its range 1e-05..0.0001" in reaching
    assert reaching.endswith("with a larger budget (--budget), in which the line search may go beyond it.")
    assert walled.endswith("Next: the same command with --space wide.")


def test_an_edge_that_a_trial_has_passed_is_no_warning() -> None:
    at_the_edge, other = sgd(lr=0.099, momentum=0.5), Recipe(Part("adamw", {"lr": 1.0}))

    assert edge_warnings(at_the_edge, SPACE, [record(1.0, 0.9)]) == []
    assert len(edge_warnings(at_the_edge, SPACE, [record(1e-5, 0.9), make_trial(1, None, recipe=other)])) == 1


def test_divergence_is_told_with_the_highest_rate_that_stayed_stable() -> None:
    records = [record(0.1, 0.5), record(0.3, 0.4), record(2.0, None), record(1.0, None)]
    assert stability(records) == [
        "sgd: 2 of 4 trials diverged, from a learning rate of 1; the highest that stayed stable is 0.3"
    ]


def test_nothing_is_said_where_nothing_diverged() -> None:
    assert stability([record(0.1, 0.5)]) == []


def test_an_optimizer_that_never_stayed_stable_is_told() -> None:
    assert stability([record(5.0, None)])[0].endswith("none stayed stable")


def test_a_best_rate_beyond_the_range_is_said_to_lie_there() -> None:
    space = with_reach(load_space("finetune"))
    best = Recipe(Part("adamw", {"lr": 3e-4}), Part("linear", {"warmup_fraction": 0.06}))
    (warning,) = edge_warnings(best, space, [])

    assert "lies beyond the range 1e-05..0.0001" in warning
    assert "the line search went further" in warning
