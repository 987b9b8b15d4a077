from opttune.space.facts import ModelFacts


def test_the_trained_parameters_are_a_share_of_all():
    assert ModelFacts(parameters=1000, trainable_share=0.25).trainable == 250
    assert ModelFacts(parameters=0).trainable == 0


def test_by_itself_a_module_is_nothing_in_particular():
    facts = ModelFacts(parameters=1)
    assert not any(getattr(facts, name) for name in ModelFacts.__dataclass_fields__ if name.startswith(("has_", "is_")))
