from opttune.export.use import Use


def test_the_comments_say_where_it_is_from_what_it_reached_and_how_to_use_it() -> None:
    use = Use("trial 3 of the study s", 0.25, length={"max_steps": 9}, seed=4, call="RecipeCallback('r.yaml')")

    assert use.comments == [
        "trial 3 of the study s: val_loss 0.25",
        "length: max_steps=9; seed: 4",
        "to train with it: RecipeCallback('r.yaml')",
    ]


def test_what_is_not_known_is_left_out() -> None:
    assert Use("recipe.yaml").comments == ["recipe.yaml"]
