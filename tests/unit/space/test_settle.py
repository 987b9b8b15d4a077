import pytest

from opttune.errors import UnknownNameError
from opttune.space.facts import ModelFacts
from opttune.space.parse import load_space
from opttune.space.settle import settle_space

FACTS = ModelFacts(parameters=10_000, has_hidden_matrices=True)


def varying(space):
    return {name for name, _ in space.parameters()}


def test_auto_chooses_and_says_why():
    settled = settle_space("auto", FACTS, total_steps=300, budget=12)
    assert settled.space.name == "auto"
    assert any("adamw" in note for note in settled.notes)


def test_a_small_budget_holds_what_it_does_not_pay_for_and_says_so():
    settled = settle_space("adamw", FACTS, total_steps=300, budget=5)
    assert varying(settled.space) == {"adamw.lr", "schedule"}
    assert "adamw.beta2 = 0.999 (varies from a budget of 25 trainings on)" in settled.notes[0]


def test_a_large_budget_varies_all_that_the_space_does():
    settled = settle_space("adamw", FACTS, total_steps=300, budget=40)
    assert varying(settled.space) == varying(load_space("adamw"))
    assert settled.notes == ()


def test_learning_rates_start_higher_in_short_trainings():
    def centre(steps):
        branch = settle_space("wide", FACTS, total_steps=steps, budget=40).space.optimizers[0]
        assert branch.name == "adamw"
        return branch.get("lr").centre

    assert centre(300) == pytest.approx(1e-2)
    assert centre(100_000) == pytest.approx(1e-3)


def test_an_unknown_name_is_refused():
    with pytest.raises(UnknownNameError, match="unknown space 'adamww'"):
        settle_space("adamww", FACTS, total_steps=300, budget=5)
