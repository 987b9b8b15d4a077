"""How a recipe moves with the length."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from opttune.algorithms.rungs import FOR_LONG_TRAININGS
from opttune.errors import InputError
from opttune.length_transfer.move import MOST_MOVE, move_recipe, product_factor, rate_factor
from opttune.length_transfer.transfer import Transferred, transfer_recipe, transfer_study
from opttune.outcome import Outcome, StopReason
from opttune.recipe import Part, Recipe
from opttune.study.frozen_study import load_study
from opttune.trial_record import TrialRecord
from tests.support import recorded
from tests.support.search_models import Classifier, loaders
from tests.support.searches import make_space, run_search


def moved(optimizer: Part, ratio: float, passes: float | None = 0.5, **settings: float) -> Part:
    return move_recipe(Recipe(optimizer), ratio, settings.get("exponent", 0.15), passes, {"adamw": 0.005})[0].optimizer


def test_the_rate_falls_by_the_power_of_the_length_and_is_bounded() -> None:
    # Bjorck et al. 2024: 0.32
    assert rate_factor(10, 0.32) == pytest.approx(0.479, abs=1e-3)
    assert rate_factor(0.1, 0.32) == pytest.approx(2.089, abs=1e-3)
    assert rate_factor(100, 0.5) == pytest.approx(1 / MOST_MOVE)


def test_decay_follows_power_lines_in_one_pass_and_wang_and_aitchison_beyond() -> None:
    # twice the tokens per parameter: the timescale, as a share of the training, falls by 2^-0.527
    assert 1 / (product_factor(2, 0.5) * 2) == pytest.approx(2**-0.527, rel=1e-6)
    assert product_factor(4, 0.5) == product_factor(2, 0.5)
    assert product_factor(10, 1.0) == 1.0
    assert product_factor(0.1, 5.0) == pytest.approx(0.5**-0.473)


def test_rate_and_decay_of_adamw_move_together() -> None:
    part = moved(Part("adamw", {"lr": 1e-3, "weight_decay": 0.1, "betas": [0.9, 0.95]}), 2)

    assert part["lr"] == pytest.approx(1e-3 * 2**-0.15, rel=1e-3)
    assert part["lr"] * part["weight_decay"] == pytest.approx(1e-4 * 2**-0.473, rel=1e-3)
    assert part["betas"] == (0.9, 0.95)


def test_decay_stays_where_it_is_a_penalty_or_zero_or_the_passes_are_unknown() -> None:
    assert moved(Part("sgd", {"lr": 0.1, "weight_decay": 1e-4}), 10)["weight_decay"] == 1e-4
    assert moved(Part("adamw", {"lr": 1e-3, "weight_decay": 0.0}), 10)["weight_decay"] == 0.0
    assert moved(Part("adamw", {"lr": 1e-3, "weight_decay": 0.1}), 10, None)["weight_decay"] == 0.1


def test_a_rate_stays_in_the_catalogs_range_and_below_what_diverged() -> None:
    assert moved(Part("adamw", {"lr": 1.1e-5}), 10, exponent=0.5)["lr"] == 1e-5
    assert moved(Part("adamw", {"lr": 4e-3}), 0.1, exponent=0.5)["lr"] == 0.005
    # one that is beyond already moves no further
    assert moved(Part("adamw", {"lr": 5e-6}), 10)["lr"] == 5e-6
    assert moved(Part("adamw", {"lr": 8e-3}), 0.1)["lr"] == 8e-3


def test_an_optimizer_that_finds_its_step_keeps_its_rate() -> None:
    assert moved(Part("prodigy", {"lr": 1.0}), 10)["lr"] == 1.0


def test_each_of_several_optimizers_moves() -> None:
    part = moved(Part.join([Part("own"), Part("adam", {"lr": 1e-3})]), 10)

    assert part["1.lr"] == pytest.approx(1e-3 * 10**-0.15, rel=1e-3)


# 124M parameters, lr 1e-3, decay share 0.2 (github.com/fabian-sp/lr-scheduling): looks at 15,000 and 25,000 steps
LOOKS, END, LATER = {12_500: 3.071903, 20_833: 3.002828}, (35_000, 2.966068), (50_000, 2.930310)


def outcome(reason: StopReason, value: float, steps: int, **settings: Any) -> Outcome:
    return Outcome(reason, value, steps, END[0], 1.0, **settings)


def trial(number: int, rate: float, worse: float = 0.0, **of_looks: Any) -> TrialRecord:
    looks = {rung: {"look_steps": round(0.2 * rung), **of_looks} for rung in LOOKS}
    pauses = [outcome(StopReason.PAUSED, LOOKS[rung] + worse, rung, **given) for rung, given in looks.items()]
    end = outcome(StopReason.COMPLETED, END[1] + worse, END[0])
    recipe = Recipe(Part("adamw", {"lr": rate, "weight_decay": 0.1}), Part("cosine"))
    return TrialRecord(number, "complete", recipe, end, END[0], tuple(pauses))


def transferred(
    *records: TrialRecord, mode: str = "min", max_epochs: str | None = None, **settings: Any
) -> Transferred:
    """Return what comes of a study of language models; its settings are those of a recorded one."""
    study = load_study(Path(recorded.__file__).parent / "finished")
    config = replace(study.config, halving=FOR_LONG_TRAININGS, mode=mode, **settings)
    study = replace(study, config=config, records=records, runs=(), total_steps=END[0])
    return transfer_recipe(study, None if max_epochs else LATER[0], max_epochs=max_epochs)


def test_the_loss_of_a_longer_training_is_foreseen_from_its_looks() -> None:
    found = transferred(trial(0, 1e-3))

    assert found.expected is not None
    assert found.expected.value == pytest.approx(LATER[1], rel=2e-3)
    assert found.expected.low < LATER[1] < found.expected.high
    assert "3.0719 at 15000, 3.0028 at 25000, 2.9661 at 35000" in found.basis[0]
    assert f"expected val_loss: {found.expected.value:.5g}, from" in found.comments("r.yaml")[1]


def test_values_whose_rate_had_not_come_down_do_not_count() -> None:
    for look in (0, 5):
        found = transferred(trial(0, 1e-3, look_steps=look))
        assert found.expected is None
        assert "a forecast needs 3 lengths" in found.basis[0]


def test_a_metric_to_maximize_is_not_foreseen() -> None:
    found = transferred(trial(0, 1e-3), mode="max")

    assert found.expected is None
    assert "is maximized" in found.basis[0]


def test_of_equal_time_a_recipe_with_costly_steps_has_passed_over_less_of_the_data() -> None:
    done = trial(0, 1e-3)
    assert done.outcome is not None
    in_half_the_steps = replace(done, outcome=replace(done.outcome, share=0.5))

    assert "passed over 8 times" in " ".join(transferred(done, length={"max_epochs": 8}).facts)
    assert "passed over 4 times" in " ".join(transferred(in_half_the_steps, length={"max_epochs": 8}).facts)


def test_a_search_in_epochs_is_moved_in_epochs() -> None:
    for given in ("20", "2.5x"):
        found = transferred(trial(0, 1e-3), length={"max_epochs": 8}, max_epochs=given)
        assert (found.steps, found.epochs) == (2.5 * END[0], (8.0, 20))
        assert found.default_path.name == "recipe_20_epochs.yaml"
        assert "length: max_epochs=20" in found.comments("r.yaml")
        assert "searched for 8 epochs (35000 steps), for 20 epochs (87500 steps), 2.5 times as long:" in found.words[0]

    with pytest.raises(InputError, match=r"--max-epochs: recorded was searched for 35000 steps.*--max-steps 10x"):
        transferred(trial(0, 1e-3), length={"max_steps": END[0]}, max_epochs="2x")
    with pytest.raises(InputError, match=r"--max-epochs must be a whole number of epochs > 0.* got 'ten'"):
        transferred(trial(0, 1e-3), length={"max_epochs": 8}, max_epochs="ten")
    with pytest.raises(InputError, match=r"--max-epochs: .* 125 times"):
        transferred(trial(0, 1e-3), length={"max_epochs": 8}, max_epochs="1000")


def test_the_words_name_the_numbers_and_keep_facts_apart_from_reasons() -> None:
    found = transferred(trial(0, 1e-3), mode="max", length={"max_epochs": 8})
    words = "\n".join(found.words)

    assert "adamw.lr 0.001 -> 0.0009479: multiplied by (50000/35000)^-0.15 = 0.95." in words
    assert "adamw.weight_decay 0.1 -> 0.1055: lr x weight decay stays the same." in words
    assert "exponent of the rate: 0.15 +- 0.15, from other studies: this one does not show" in words
    assert "because:\n  val_loss is maximized" in words
    # a fact is no reason
    assert words.endswith("\nThe data are passed over 8 times at the searched length, 11.4 at the new one.")


def test_what_the_study_shows_of_the_rate_is_used() -> None:
    found = transferred(trial(0, 5e-4, 0.2), trial(1, 1e-3), trial(2, 2e-3, 0.1))

    assert "adamw: of 3 rates the best was 0.001 at 15000 steps and 0.001 at 35000" in " ".join(found.moved)
    # no fall was seen, so that less than the prior's remains
    assert 1e-3 * (50 / 35) ** -0.15 < found.recipe.optimizer.rate < 1e-3


@pytest.mark.slow
def test_a_schedule_that_follows_the_metric_is_refused(tmp_path: Path) -> None:
    space = make_space(
        "{optimizer: {sgd: {lr: {low: 1e-2, high: 1e-1, log: true, source: test}}}, schedule: {plateau: {}}}"
    )
    run_search(tmp_path, Classifier, data=loaders, space=space, max_steps=20, budget=1, study="plateau", baseline=False)

    with pytest.raises(InputError, match=r"the schedule plateau of trial 0 follows val_loss.*Give --trial N"):
        transfer_study(str(tmp_path / "out"), "2x")
