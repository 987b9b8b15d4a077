"""What rows of Adam's descendants set beside their options."""

from torch import nn

from opttune.build.optimizer import build_optimizer
from opttune.recipe import Part, Recipe


def test_ademamix_is_told_the_length_of_the_training() -> None:
    optimizer = build_optimizer(Recipe(Part("ademamix")), nn.Linear(2, 2), 1234)
    assert {group["t_alpha_beta3"] for group in optimizer.param_groups} == {1234}


def test_mars_moves_biases_at_the_recipes_rate_whatever_its_class_defaults_to() -> None:
    optimizer = build_optimizer(Recipe(Part("mars", {"lr": 0.5, "weight_decay": 0.1})), nn.Linear(2, 2), 10)
    assert {group["lr_1d_factor"] for group in optimizer.param_groups} == {1.0}
    assert [group["weight_decay_1d"] for group in optimizer.param_groups] == [0.1, 0.0]
