"""What varies of the parameter groups: read, written, sampled, held, and left out where it means nothing."""

import re

import numpy as np
import optuna
import pytest
from torch import nn

from opttune.algorithms.draws import draw_from_prior
from opttune.algorithms.observations import Observation
from opttune.algorithms.proposal import SamplerSettings, propose
from opttune.build.groups import plan_groups, read_group_facts
from opttune.errors import OpttuneError, SpaceError
from opttune.recipe import Groups, Rule
from opttune.space.auto import ModelFacts
from opttune.space.fit import for_budget
from opttune.space.group_facts import GroupFacts, with_fitting_groups, without_group_fields
from opttune.space.model import Branch, Choice, Range, SettledSpace, Space
from opttune.space.parse import load_space, parse_space
from opttune.space.sample import default_parameters, default_recipe, sample_recipe
from opttune.space.settle import EarlierBest, settle
from opttune.study.diagnostics import edge_warnings
from opttune.yaml_text import write_yaml
from tests.support.searches import make_space

TEXT = """
optimizer:
  adamw: {lr: {low: 1e-4, high: 1e-2, log: true, prior: 1e-3}}
  prodigy: {}
groups:
  lora_plus_ratio: {low: 1, high: 32, log: true}
  layer_decay: {low: 0.5, high: 1.0, prior: 0.9}
  no_decay_embeddings: {choices: [true, false]}
  rules:
    - {match: '^backbone\\.', lr_ratio: {low: 0.01, high: 1, log: true}}
    - match: head
      weight_decay_mult: 0.0
"""
SPACE = make_space(TEXT)
NAMES = ("backbone.weight", "backbone.bias", "head.weight")
ALL = GroupFacts(NAMES)


def fields_of(space: Space) -> list[str]:
    return [name for name, _ in space.group_fields]


def fitted(facts: GroupFacts | None, text: str = TEXT) -> SettledSpace:
    return with_fitting_groups(SettledSpace(make_space(text)), facts)


def test_a_space_reads_what_varies_of_its_groups_and_writes_it_back() -> None:
    assert fields_of(SPACE) == ["no_decay_embeddings", "layer_decay", "lora_plus_ratio", "lr_ratio_backbone"]
    assert SPACE.groups == Groups(rules=(Rule(r"^backbone\."), Rule("head", weight_decay_mult=0.0)))
    assert parse_space(write_yaml(SPACE.to_dict()), "tiny") == SPACE
    assert [name for name, _ in SPACE.parameters()][-1] == "groups.lr_ratio_backbone"


def test_groups_without_ranges_are_written_as_recipes_write_them() -> None:
    fixed = make_space("{optimizer: sgd, groups: {layer_decay: 0.9, rules: [{match: a, lr_ratio: 2}]}}")
    assert fixed.groups == Groups(layer_decay=0.9, rules=(Rule("a", 2.0),))
    assert fixed.to_dict()["groups"] == fixed.groups.to_dict()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("layer_decay", "layer_decy", "7: unknown key 'layer_decy' in groups. Did you mean 'layer_decay'?"),
        ("lr_ratio", "lr_ration", "10: unknown key 'lr_ration' in a rule of groups. Did you mean 'lr_ratio'?"),
        ("high: 1,", "hig: 1,", "10: unknown key 'hig' in groups.rules.0.lr_ratio. Did you mean 'high'?"),
        ("match: head", "match: '('", "11: groups.rules: match '(' is not a regular expression: missing )"),
        ("match: head", "match: ^backbone\\.", "11: groups.rules: '^backbone\\\\.' is given twice, and only the first"),
        ("match: head", "lr_ratio: 2", "11: a rule of groups is {match: REGEX, lr_ratio: {low: 0.01, "),
        (
            "head\n",
            "head\n      weight_decay_ratio: 1\n",
            "13: weight_decay_ratio and weight_decay_mult are the same",
        ),
        ("high: 1.0", "high: 1.5", "7: groups.layer_decay must be > 0 and <= 1, got 1.5."),
        ("low: 0.01, high: 1", "low: -1, high: 1", "10: groups.rules.0.lr_ratio: low must be > 0 because log is true"),
        ("{low: 0.5, high: 1.0, prior: 0.9}", "[0.5, 1]", "7: groups.layer_decay: a bare list is ambiguous."),
        ("[true, false]", "[yes, false]", "8: groups.no_decay_embeddings must be true or false, got 'yes'."),
        ("groups:\n", "layer_decay: 0.9\ngroups:\n", "5: layer_decay belongs to the groups. Write `groups: {layer_dec"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_remedy(old: str, new: str, message: str) -> None:
    head, groups = TEXT.split("groups:\n")
    changed = head + ("groups:\n" + groups).replace(old, new, 1)
    with pytest.raises(OpttuneError, match="^" + re.escape(f"s.yaml:{message}")):
        parse_space(changed, "s", where="s.yaml")


def test_a_field_that_groups_do_not_have_is_refused() -> None:
    with pytest.raises(SpaceError, match="space x: groups have no field 'lr_ratio_head'"):
        Space("x", (Branch("sgd"),), group_fields=(("lr_ratio_head", Choice((0.1, 1.0))),))


def test_a_sampled_recipe_holds_the_values() -> None:
    chosen = {
        "optimizer": "adamw",
        "adamw.lr": 1e-3,
        "groups.no_decay_embeddings": True,
        "groups.layer_decay": 0.7,
        "groups.lora_plus_ratio": 16.0,
        "groups.lr_ratio_backbone": 0.1,
    }
    recipe = sample_recipe(SPACE, optuna.trial.FixedTrial(chosen))
    rules = (Rule(r"^backbone\.", 0.1), Rule("head", weight_decay_mult=0.0))
    assert recipe.groups == Groups(True, True, 0.7, rules, 16.0)
    flat = recipe.flat()
    assert (flat["layer_decay"], flat["lr_ratio_backbone"], flat["weight_decay_ratio_head"]) == (0.7, 0.1, 0.0)
    assert "layer_decay=0.7" in str(recipe)


def test_an_optimizer_with_one_rate_is_not_asked_for_rates() -> None:
    # it has no weight decay either unless that is set
    assert default_parameters(SPACE, 1) == {"optimizer": "prodigy"}
    assert default_recipe(SPACE, 1).groups == SPACE.groups


def test_decay_is_asked_for_where_there_may_be_some() -> None:
    text = "{optimizer: {sgd: %s}, groups: {no_decay_embeddings: {choices: [true, false]}}}"
    for fields, asked in (("{}", False), ("{weight_decay: 0.0}", False), ("{weight_decay: 0.1}", True)):
        assert bool(default_parameters(make_space(text % fields), 0)) is asked


def test_draws_and_the_model_know_the_fields() -> None:
    drawn = [draw_from_prior(SPACE, np.random.default_rng(seed), 0.5) for seed in range(20)]
    with_groups = [one for one in drawn if one["optimizer"] == "adamw"]
    assert len({one["groups.layer_decay"] for one in with_groups}) > 3

    alone = make_space(TEXT.replace("  prodigy: {}\n", "").replace("lora_plus", "#lora_plus"))
    observations: list[Observation] = []
    for number in range(25):
        found = propose(alone, number, 0, observations, [one.parameters for one in observations], SamplerSettings())
        decay, ratio = float(found["groups.layer_decay"] or 0), float(found["groups.lr_ratio_backbone"] or 0)
        # the best is at 0.6 and 0.1
        value = (
            (decay - 0.6) ** 2 * 20 + np.log10(ratio / 0.1) ** 2 + np.log10(float(found["adamw.lr"] or 0) / 1e-3) ** 2
        )
        observations.append(Observation(found, (float(value),)))
    best = min(observations, key=lambda one: one.values[-1] or 0).parameters
    assert float(best["groups.layer_decay"] or 0) < 0.8
    assert 0.02 < float(best["groups.lr_ratio_backbone"] or 0) < 0.5


@pytest.mark.parametrize(("name", "field"), [("finetune", "layer_decay"), ("lora", "lora_plus_ratio")])
def test_the_spaces_for_fine_tuning_vary_rates_from_a_budget_of_10_on(name: str, field: str) -> None:
    small, held = for_budget(load_space(name), 9)
    assert fields_of(small) == []
    assert f"groups.{field} = 1 (varies from a budget of 10 trainings on)" in map(str, held)
    # a factor of 1 is none, so that the recipe is what it was before groups varied
    assert not default_recipe(small).groups.scales_layers
    assert not default_recipe(small).groups.scales_lora_b
    assert fields_of(for_budget(load_space(name), 10)[0]) == [field]


def test_auto_varies_layer_decay_for_what_is_pretrained() -> None:
    facts = ModelFacts(10**8, looks_pretrained=True, has_attention=True, groups=ALL)
    for budget, fields in ((9, []), (10, ["layer_decay"])):
        settled = settle(load_space("auto"), "auto", trainer={}, facts=facts, total_steps=1000, budget=budget)
        assert fields_of(settled.space) == fields


def test_what_means_nothing_is_left_out_with_a_word() -> None:
    few = GroupFacts(("a.weight", "head.weight"), 1, False, False, False)
    settled = fitted(few)
    assert fields_of(settled.space) == []
    assert settled.space.groups.rules == (Rule("head", weight_decay_mult=0.0),)
    assert settled.notes == (
        "groups.no_decay_embeddings is left out: no embedding is trained with weight decay.",
        "groups.layer_decay is left out: all trained parameters are in one layer.",
        "groups.lora_plus_ratio is left out: no trained parameter is LoRA's B matrix (lora_B).",
        "groups.lr_ratio_backbone is left out: no trained parameter that an earlier rule left matches "
        "'^backbone\\\\.' (there are a.weight, head.weight).",
    )


def test_what_some_optimizers_cannot_use_is_told() -> None:
    settled = fitted(ALL)
    assert settled.space == SPACE
    assert settled.notes == (
        "prodigy goes without groups.no_decay_embeddings: it has no weight decay here.",
        "prodigy goes without groups.layer_decay, groups.lora_plus_ratio, groups.lr_ratio_backbone: it works with one "
        "learning rate for all parameters.",
    )


def test_what_no_optimizer_can_use_is_left_out_even_where_nothing_is_known_of_the_module() -> None:
    settled = fitted(None, "{optimizer: {prodigy: {}}, groups: {layer_decay: {low: 0.5, high: 1.0}}}")
    assert fields_of(settled.space) == []
    assert settled.notes[0].startswith("groups.layer_decay is left out: it works with one learning rate")


def test_a_rule_for_all_that_is_trained_is_the_learning_rate_itself() -> None:
    rules = "[{match: ., weight_decay_mult: 0.5, lr_ratio: {low: 0.1, high: 1}}]"
    settled = fitted(ALL, f"{{optimizer: adamw, groups: {{rules: {rules}}}}}")
    assert fields_of(settled.space) == []
    assert settled.space.groups.rules == (Rule(".", weight_decay_mult=0.5),)
    assert "it is the learning rate itself" in settled.notes[0]


def test_names_of_rules_follow_when_one_is_left_out() -> None:
    rules = "[{match: ^head_, lr_ratio: {low: 0.1, high: 1}}, {match: ^head, lr_ratio: {low: 0.2, high: 1}}]"
    settled = fitted(ALL, f"{{optimizer: adamw, groups: {{rules: {rules}}}}}")
    assert settled.space.group_fields == (("lr_ratio_head", Range(0.2, 1)),)


def test_a_fixed_rule_that_others_leave_nothing_is_refused_before_anything_is_spent() -> None:
    rules = "[{match: ., lr_ratio: {low: 0.1, high: 1}}, {match: head, lr_ratio: 2}]"
    with pytest.raises(SpaceError, match=r"no trained parameter that an earlier rule left matches 'head'"):
        fitted(ALL, f"{{optimizer: adamw, groups: {{rules: {rules}}}}}")


def test_a_space_without_its_varying_groups_fits_every_module() -> None:
    assert without_group_fields(SPACE).groups == Groups(rules=(Rule("head", weight_decay_mult=0.0),))
    assert without_group_fields(load_space("sgd")) == load_space("sgd")


def test_an_earlier_study_teaches_the_groups() -> None:
    best = EarlierBest("adamw", "constant", {"groups.layer_decay": 0.6, "groups.lr_ratio_backbone": 5.0}, 0.1)
    facts = ModelFacts(1000, groups=ALL)
    settled = settle(SPACE, "", trainer={}, facts=facts, total_steps=100, budget=20, earlier=[best])
    assert {name: field.centre for name, field in settled.space.group_fields}["layer_decay"] == 0.6
    # out of its range: the nearest
    assert dict(settled.space.group_fields)["lr_ratio_backbone"].centre == 1


def test_a_factor_of_one_is_no_edge_and_another_end_is() -> None:
    def warn(decay: float) -> list[str]:
        values = {"optimizer": "adamw", "adamw.lr": 1e-3, "groups.layer_decay": decay, "groups.lora_plus_ratio": 4.0}
        more = {"groups.no_decay_embeddings": True, "groups.lr_ratio_backbone": 0.1}
        return edge_warnings(sample_recipe(SPACE, optuna.trial.FixedTrial(values | more)), SPACE, [])

    assert warn(1.0) == []
    (warning,) = warn(0.5)
    assert "the best layer_decay 0.5 lies at the lower edge of its range 0.5..1" in warning
    assert warning.endswith("write a space file with a wider groups.layer_decay.")


def test_the_facts_are_those_of_what_is_trained() -> None:
    net = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    facts = read_group_facts(net)
    assert facts == GroupFacts(tuple(name for name, _ in net.named_parameters()), 3, True, True, False)
    net[0].requires_grad_(False)
    own = [{"params": [*net[3].parameters()], "lr": 0.1}]
    assert read_group_facts(net) == GroupFacts(facts.names[1:], 2, True, False, False)
    # what the module's own optimizer does not hold is not trained
    assert read_group_facts(net, own) == GroupFacts(("3.weight", "3.bias"), 1, True, False, False)


def test_sparse_embeddings_have_no_decay_to_leave_off() -> None:
    facts = read_group_facts(nn.Sequential(nn.Embedding(5, 4, sparse=True), nn.Linear(4, 4)))
    assert facts is not None
    assert not facts.has_embeddings


def test_a_matrix_of_lora_is_found() -> None:
    facts = read_group_facts(nn.ModuleDict({"lora_A": nn.Linear(2, 2), "lora_B": nn.Linear(2, 2)}))
    assert facts is not None
    assert facts.has_lora_b


@pytest.mark.parametrize("net", [nn.Sequential(nn.LazyLinear(3)), nn.Linear(2, 2).requires_grad_(False)])
def test_nothing_is_known_before_a_layer_has_its_size_and_where_nothing_is_trained(net: nn.Module) -> None:
    assert read_group_facts(net) is None


def test_factors_of_one_split_no_groups() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    assert plan_groups(net, Groups(layer_decay=1.0, lora_plus_ratio=1.0)) == plan_groups(net, Groups())
