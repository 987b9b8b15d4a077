"""How parameters are split into groups, and what stays of the module's own."""

from typing import Any

import pytest
import torch
from torch import nn

from opttune.build.groups import GroupPlan, plan_groups
from opttune.build.optimizer import build_optimizer, describe_groups
from opttune.errors import ModelError
from opttune.recipe import Groups, Part, Recipe, Rule
from tests.support.optimizer_tasks import LstmModel, TransformerModel, cnn


def table(plans: list[GroupPlan]) -> dict[str, tuple[float, float]]:
    return {name: (plan.scale.lr, plan.scale.weight_decay) for plan in plans for name in plan.names}


def adapted() -> nn.Module:
    """A frozen layer with LoRA's two matrices beside it."""
    net = nn.Module()
    net.base = nn.Linear(4, 4).requires_grad_(False)
    net.lora_A = nn.ModuleDict({"default": nn.Linear(4, 2, bias=False)})
    net.lora_B = nn.ModuleDict({"default": nn.Linear(2, 4, bias=False)})
    return net


def test_norms_are_found_by_their_kind_and_not_by_their_dimension_alone() -> None:
    class LayerNorm2d(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4, 1, 1))

    net = nn.Sequential(nn.Conv2d(3, 4, 3), LayerNorm2d(), nn.PReLU(4), nn.RMSNorm([4, 4]))
    decays = {name: decay for name, (_, decay) in table(plan_groups(net, Groups())).items()}
    assert decays == {"0.weight": 1.0, "0.bias": 0.0, "1.weight": 0.0, "2.weight": 0.0, "3.weight": 0.0}


def test_everything_decays_where_that_is_asked_for() -> None:
    (plan,) = plan_groups(cnn(), Groups(no_decay_norm_bias=False))
    assert plan.scale.name == "decay"
    assert len(plan.names) == 10


@pytest.mark.parametrize("spared", [True, False])
def test_embeddings_decay_by_choice(spared: bool) -> None:
    decays = table(plan_groups(TransformerModel(), Groups(no_decay_embeddings=spared)))
    assert decays["pos_embed"][1] == decays["token_embedding.weight"][1] == float(not spared)
    assert decays["head.weight"][1] == 1.0


def test_layer_decay_multiplies_once_a_layer_and_spares_the_head() -> None:
    rates = {name: lr for name, (lr, _) in table(plan_groups(TransformerModel(), Groups(layer_decay=0.5))).items()}
    assert rates["head.weight"] == 1.0
    assert rates["encoder.layers.1.linear1.weight"] == 0.5
    assert rates["encoder.layers.0.linear1.weight"] == 0.25
    assert rates["token_embedding.weight"] == 0.125


def test_the_first_rule_that_matches_holds_and_factors_multiply() -> None:
    rules = (Rule("^head", lr_mult=10.0, weight_decay_mult=0.5), Rule("weight", lr_mult=2.0))
    scales = table(plan_groups(LstmModel(), Groups(rules=rules, layer_decay=0.5)))
    assert scales["head.weight"] == (10.0, 0.5)
    assert scales["head.bias"] == (10.0, 0.0)
    assert scales["lstm.weight_ih_l0"] == (1.0, 1.0)
    assert scales["lstm.bias_ih_l0"] == (0.5, 0.0)
    assert scales["embedding.weight"] == (0.5, 1.0)


def test_a_rule_that_matches_nothing_is_an_error() -> None:
    rules = (Rule("weight"), Rule("^head.weight$"))
    with pytest.raises(ModelError, match=r"rule 2 \('\^head\.weight\$'\) holds for no trainable parameter that an ear"):
        plan_groups(LstmModel(), Groups(rules=rules))


def test_a_rule_for_frozen_parameters_is_an_error() -> None:
    with pytest.raises(ModelError, match=r"rule 1 \('base'\).*The parameters are: lora_A\.default\.weight, lora_B"):
        plan_groups(adapted(), Groups(rules=(Rule("base"),)))


def test_lora_plus_raises_the_rate_of_b_and_leaves_frozen_parameters_out() -> None:
    scales = table(plan_groups(adapted(), Groups(lora_plus_ratio=16.0)))
    assert scales == {"lora_A.default.weight": (1.0, 1.0), "lora_B.default.weight": (16.0, 1.0)}


def test_lora_plus_without_lora_is_an_error() -> None:
    with pytest.raises(ModelError, match=r"lora_plus_ratio is set, and no trainable parameter is named lora_B"):
        plan_groups(cnn(), Groups(lora_plus_ratio=16.0))


def test_a_module_without_trainable_parameters_is_an_error() -> None:
    with pytest.raises(ModelError, match="no trainable parameter: every one has requires_grad=False"):
        plan_groups(nn.Linear(2, 2).requires_grad_(False), Groups())


def test_muons_matrices_are_the_hidden_ones() -> None:
    matrices = {
        name
        for plan in plan_groups(TransformerModel(), Groups(), split_matrices=True)
        for name in plan.names
        if plan.scale.is_matrix
    }
    layer = ("self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight", "linear2.weight")
    assert matrices == {f"encoder.layers.{index}.{name}" for index in (0, 1) for name in layer}
    convolutions = plan_groups(cnn(), Groups(), split_matrices=True)
    assert [plan.names for plan in convolutions if plan.scale.is_matrix] == [["0.weight", "3.weight"]]


def test_a_rule_says_what_is_a_matrix() -> None:
    rules = (Rule("^7", as_matrix=True), Rule("^0", as_matrix=False))
    plans = plan_groups(cnn(), Groups(rules=rules), split_matrices=True)
    assert [plan.names for plan in plans if plan.scale.is_matrix] == [["3.weight"], ["7.weight"]]


def test_an_unlucky_order_is_mended_by_a_rule() -> None:
    net = nn.Module()
    net.head, net.body = nn.Linear(4, 2), nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4))
    rules = (Rule("^head", as_matrix=False), Rule("^body", as_matrix=True))
    plans = plan_groups(net, Groups(rules=rules), split_matrices=True)
    assert [plan.names for plan in plans if plan.scale.is_matrix] == [["body.0.weight", "body.1.weight"]]


def own_groups(model: Any) -> list[dict[str, Any]]:
    optimizer = torch.optim.AdamW(
        [
            {"params": model.encoder.parameters(), "lr": 1e-5, "weight_decay": 0.0},
            {"params": model.head.parameters(), "lr": 1e-3},
        ],
        weight_decay=0.1,
    )
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5)  # the rates of now are not the peaks
    return list(optimizer.param_groups)


def test_the_ratios_of_the_modules_own_groups_stay_and_what_it_left_out_stays_out() -> None:
    model = TransformerModel()
    scales = table(plan_groups(model, Groups(), own_groups=own_groups(model)))
    assert scales["encoder.layers.0.linear1.weight"] == (pytest.approx(0.01), 0.0)
    assert scales["head.weight"] == (1.0, 1.0)
    assert scales["head.bias"] == (1.0, 0.0)
    assert "pos_embed" not in scales


def test_own_groups_without_any_weight_decay_do_not_forbid_it() -> None:
    layer = nn.Linear(2, 2)
    own = torch.optim.SGD(layer.parameters(), lr=0.0)
    assert table(plan_groups(layer, Groups(), own_groups=own.param_groups)) == {
        "weight": (1.0, 1.0),
        "bias": (1.0, 0.0),
    }


def test_own_groups_without_a_trainable_parameter_are_an_error() -> None:
    layer = nn.Linear(2, 2).requires_grad_(False)
    layer.bias.requires_grad_(True)
    own = [{"params": [layer.weight], "lr": 0.1}]
    with pytest.raises(ModelError, match="no trainable parameter that its own optimizer trains"):
        plan_groups(layer, Groups(), own_groups=own)


def test_prodigy_refuses_rates_of_their_own() -> None:
    with pytest.raises(
        ModelError, match=r"'prodigy' works with one learning rate for all parameters: leave out groups"
    ):
        build_optimizer(Recipe(Part("prodigy"), groups=Groups(layer_decay=0.5)), cnn(), 10)


def test_the_table_shows_peaks_and_what_is_not_trained() -> None:
    model = TransformerModel()
    recipe = Recipe(Part("adamw", {"lr": 1e-3, "weight_decay": 0.1}), groups=Groups(rules=(Rule("^head", lr_mult=10),)))
    optimizer = build_optimizer(recipe, model, 10, own_groups=own_groups(model))
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5)
    rows = {
        row.group: (row.tensors, row.parameters, row.lr, row.weight_decay) for row in describe_groups(optimizer, model)
    }
    assert rows["own group 2, rule 1, decay"] == (1, 176, pytest.approx(1e-2), pytest.approx(0.1))
    assert rows["own group 2, rule 1, no decay"] == (1, 11, pytest.approx(1e-2), 0.0)
    assert rows["own group 1, no decay"][2:] == (pytest.approx(1e-5), 0.0)
    assert rows["not trained"] == (4, 96 + 176 + 32, 0.0, 0.0)


def test_an_optimizer_that_makes_its_own_groups_gets_the_planned_rates() -> None:
    model = TransformerModel()
    recipe = Recipe(
        Part("adam_mini", {"lr": 1e-3, "weight_decay": 0.1}),
        groups=Groups(layer_decay=0.5, rules=(Rule("pos_embed", weight_decay_mult=0.0),)),
    )
    model.norm.requires_grad_(False)
    rows = {row.group: row for row in describe_groups(build_optimizer(recipe, model, 10), model)}
    assert (rows["head.weight"].lr, rows["head.weight"].weight_decay) == (1e-3, 0.1)
    assert (rows["head.bias"].lr, rows["head.bias"].weight_decay) == (1e-3, 0.0)
    assert (rows["pos_embed"].lr, rows["pos_embed"].weight_decay) == (pytest.approx(1e-3 / 8), 0.0)
    own = [{"params": list(model.head.parameters()), "lr": 1.0}]
    rows = {row.group: row for row in describe_groups(build_optimizer(Recipe(recipe.optimizer), model, 10, own), model)}
    assert set(rows) == {"head.weight", "head.bias", "not trained"}
