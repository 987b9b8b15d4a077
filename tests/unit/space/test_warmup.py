import pytest

from opttune.space.warmup import longest_warmup
from tests.support.searches import make_space


@pytest.mark.parametrize(
    ("schedule", "longest"),
    [
        ("constant: {warmup_fraction: 0.0}", 0.0),
        ("linear: {warmup_fraction: {low: 0.0, high: 0.15, source: test}}", 0.15),
        ("linear: {warmup_fraction: {choices: [0.0, 0.2, 0.05], source: test}}", 0.2),
        ("linear: {warmup_fraction: 0.05}, cosine: {warmup_fraction: 0.25}", 0.25),
        ("linear: {warmup_fraction: {low: 0.0, high: 0.8, source: test}}", 0.3),
        ("one_cycle: {rise_fraction: 0.2}", 0.2),
    ],
)
def test_the_longest_warmup_of_any_recipe_counts(schedule: str, longest: float) -> None:
    text = f"optimizer: {{sgd: {{lr: 0.1}}}}\nschedule: {{{schedule}}}"

    assert longest_warmup(make_space(text)) == longest


def test_a_schedule_that_does_not_say_warms_up_as_the_catalog_does() -> None:
    assert 0 < longest_warmup(make_space("optimizer: {sgd: {lr: 0.1}}\nschedule: one_cycle")) <= 0.3
