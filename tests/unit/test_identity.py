"""Two identities: what is named as different, and what is not."""

from opttune.identity import Identity

LOADER = {"purpose": "training", "dataset": "Points", "samples": 8, "batch_size": 2}
CONTENTS = [[0.5, 0.1], [1.0, -0.2], [2.0, 0.3], [0.7, 0.4]]


def of_data(**changes):
    return Identity({"class": "Net"}, [{**LOADER, "contents": CONTENTS, **changes}])


def test_the_same_is_no_difference():
    assert of_data().differences(Identity.from_dict(of_data().to_dict())) == ("", [])


def test_at_most_three_differences_of_a_model_are_named():
    before = Identity({"class": "Net", **{f"w{n}": "8" for n in range(5)}})
    now = Identity({"class": "Net", **{f"w{n}": "9" for n in range(4)}})
    what, words = before.differences(now)
    assert what == "another model"
    assert words == [*(f"w{n}: 8 in the study, 9 now" for n in range(3)), "and 2 more"]
    assert before.differences(Identity({"class": "Other"}))[1][0] == "class: Net in the study, Other now"


def test_other_data_are_named():
    assert of_data().differences(of_data(samples=9)) == ("other data", ["training samples: 8 in the study, 9 now"])
    others = [[value + 1 for value in sample] for sample in CONTENTS]
    assert of_data().differences(of_data(contents=others))[1] == ["the training samples hold other values"]
    assert of_data().differences(Identity({"class": "Net"}))[1] == ["loaders: 1 in the study, 0 now"]


def test_what_is_unknown_rounded_otherwise_or_seldom_changed_is_no_difference():
    for changes in ({"samples": None}, {"contents": None}):
        assert of_data().differences(of_data(**changes)) == ("", [])
        assert of_data(**changes).differences(of_data()) == ("", [])
    rounded = [[first * 1.0005, second + 2e-4 * first] for first, second in CONTENTS]
    assert of_data().differences(of_data(contents=rounded)) == ("", [])
    changed = [[9.0, 9.0], [8.0, 8.0], *CONTENTS[2:]]
    assert of_data().differences(of_data(contents=changed)) == ("", [])


def test_other_weights_of_an_instance_are_named_and_unknown_ones_are_not() -> None:
    what, (words,) = Identity(weights=1).differences(Identity(weights=2))
    assert what == "other weights"
    assert "weights of the given instance" in words
    for before, now in ((1, 1), (None, 2), (1, None)):
        assert Identity(weights=before).differences(Identity(weights=now)) == ("", [])
    # as stored by an earlier version
    assert Identity.from_dict({"model": {}, "data": []}).weights is None
