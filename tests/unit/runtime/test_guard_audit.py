from pathlib import Path
from typing import Any

import pytest
import torch
from optuna.trial import TrialState

from opttune import Guard, Recipe
from opttune.outcome import Outcome, StopReason
from opttune.recipe import Part
from opttune.runtime.guard_audit import audit_warnings, guard_of, is_audited, look_at, loosened
from opttune.study.result import SearchResult
from opttune.trial_record import TrialRecord
from tests.support.records import make_outcome, make_pause, make_trial
from tests.support.search_models import Classifier, loaders
from tests.support.searches import make_space, run_search

RECIPE = Recipe(Part("adamw", {"lr": 0.01}))
SAID = "let go on as a check, though the loss rose; the loss jumped"


def fresh(number: int) -> TrialRecord:
    return make_trial(number, state="running", recipe=RECIPE)


def at_rung(number: int, value: float, **fields: Any) -> TrialRecord:
    pause = make_pause(value, 10, **fields)
    return make_trial(number, state="running", recipe=RECIPE, pauses=(pause,))


def flagged(value: float | None, rule: str = "blow_up", reason: StopReason = StopReason.PAUSED) -> Outcome:
    return make_outcome(value, reason, steps=10, flagged=rule, alarms=SAID)


PEERS = [at_rung(0, 1.0), at_rung(1, 2.0), at_rung(2, 3.0)]


def test_one_trial_in_twenty_is_let_pass_and_always_the_same() -> None:
    chosen = [number for number in range(2000) if is_audited(Guard(), 3, number)]
    assert 70 <= len(chosen) <= 130
    assert chosen == [number for number in range(2000) if is_audited(Guard(), 3, number)]
    assert chosen != [number for number in range(2000) if is_audited(Guard(), 4, number)]
    assert not any(is_audited(Guard(audit_share=0), 3, number) for number in range(2000))


def test_only_up_to_the_first_rung_a_trial_is_let_pass() -> None:
    guard = Guard(audit_share=1)
    assert guard_of(guard, fresh(0), 0, []) == Guard(audit_share=1, only_notes=True)
    assert guard_of(guard, at_rung(0, 1.0), 0, []) == guard
    assert guard_of(None, fresh(0), 0, []) is None


def test_the_module_as_it_came_may_stand_still() -> None:
    assert guard_of(Guard(), None, 0, []) == Guard(stall=False)


@pytest.mark.parametrize(("value", "mode", "speaks"), [(1.5, "min", True), (2.5, "min", False), (2.5, "max", True)])
def test_a_flagged_trial_above_the_median_speaks_against_the_rule(value: float, mode: str, speaks: bool) -> None:
    finding = look_at(fresh(3), flagged(value), PEERS, mode)
    expected = {
        "number": 3,
        "rule": "blow_up",
        "said": "let go on as a check, though the loss rose",
        "value": value,
        "median": 2.0,
    }
    assert finding == (expected if speaks else None)


def test_others_say_nothing() -> None:
    assert look_at(fresh(3), make_pause(0.1, 10), PEERS, "min") is None
    assert look_at(fresh(3), flagged(0.1), PEERS[:2], "min") is None
    assert look_at(fresh(3), flagged(None, reason=StopReason.NON_FINITE), PEERS, "min") is None
    # it was compared at the first rung already
    assert look_at(at_rung(3, 0.1), flagged(0.1), PEERS, "min") is None
    # its own value is not one of its peers'
    assert look_at(fresh(2), flagged(0.1), PEERS, "min") is None


def test_what_was_found_loosens_the_rule() -> None:
    blow_up, stall = ({"rule": rule, "number": 3, "value": 1.5, "median": 2.0} for rule in ("blow_up", "stall"))
    assert loosened(Guard(), []) == Guard()
    assert loosened(Guard(), [blow_up]) == Guard(blow_up_ratio=3.0, runaway_ratio=60.0)
    assert loosened(Guard(), [blow_up, blow_up]).blow_up_ratio == 6.0
    assert loosened(Guard(), [stall]) == Guard(stall=False)
    assert guard_of(Guard(audit_share=0), fresh(9), 0, [stall]) == Guard(audit_share=0, stall=False)
    first, second = audit_warnings(Guard(), [blow_up, stall])
    assert "rule blow_up would have stopped trial 3, which ended the first rung better than the median (1.5 " in first
    assert first.endswith("blow_up_ratio was loosened to 3 and runaway_ratio to 60.")
    assert second.endswith("the rule was switched off for this study.")
    assert audit_warnings(Guard(), []) == []


class RisesAndLearns(Classifier):
    """Its loss in training doubles after some steps, for no bad reason."""

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = super().training_step(batch, batch_idx)
        return loss - loss.detach() + (1.0 if self.global_step < 4 else 2.0)


@pytest.mark.slow
def test_a_search_finds_out_that_a_rule_is_too_strict(tmp_path: Path) -> None:
    def go(budget: float, guard: Guard) -> SearchResult:
        space = make_space("optimizer: {adamw: {lr: {low: 1e-4, high: 1e-1, log: true}}}")
        return run_search(
            tmp_path, RisesAndLearns, data=loaders, space=space, max_steps=60, budget=budget, guard=guard,
            baseline=False, study="audited",
        )  # fmt: skip

    result = go(9, Guard(audit_share=1))
    found = [text for text in result.warnings if "rule blow_up would have stopped trial" in text]
    assert len(found) == 1
    assert "blow_up_ratio was loosened to 3" in found[0]
    # the loosened rule passes what doubles; a search that goes on keeps to it, though nothing is audited any more
    again = go(11, Guard(audit_share=0))
    assert {trial.state for trial in again.study.trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert not again.trials.reason.isin(["blow_up"]).any()
    assert [text for text in again.warnings if "rule blow_up would have stopped trial" in text] == found
