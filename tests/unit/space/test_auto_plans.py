import pytest

from opttune.space.auto_plans import plan_for
from opttune.space.facts import ModelFacts
from opttune.space.parse import load_space


@pytest.mark.parametrize(
    ("facts", "home"),
    [
        (ModelFacts(10**6, 0.01, has_lora=True, has_attention=True), "lora"),
        (ModelFacts(10**6, is_recurrent=True), "rnn"),
        (ModelFacts(10**5), "wide"),
        (ModelFacts(10**8, looks_pretrained=True, has_attention=True), "finetune"),
    ],
)
def test_a_kind_of_module_has_a_home_among_the_shipped_spaces(facts, home):
    assert plan_for(facts, total_steps=1000).home == home


@pytest.mark.parametrize("steps", [300, 100_000])
@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("convolutions", [False, True])
def test_every_pick_stands_in_the_space_that_it_names(steps, attention, convolutions):
    plan = plan_for(ModelFacts(10**8, has_attention=attention, has_convolutions=convolutions), steps)
    for pick in plan.picks:
        assert pick.optimizer in {branch.name for branch in load_space(pick.space).optimizers}
