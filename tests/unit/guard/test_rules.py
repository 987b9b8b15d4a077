import math
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from opttune.errors import InputError
from opttune.guard.rules import (
    Guard,
    StopDecision,
    Timing,
    has_improved,
    has_stalled,
    judge,
    judge_stall,
    looks_for_blow_up,
    stall_timing,
)
from opttune.outcome import StopReason

GUARD = Guard()
RECORDED = Path(__file__).parents[4] / "shared" / "data"


def first_decision(losses, total, guard=GUARD, skips_steps=False):
    """Judge a whole curve step by step, as a training does."""
    decisions = (judge(losses[:step], total, guard, skips_steps) for step in range(1, len(losses) + 1))
    return next((decision for decision in decisions if decision), None)


def falling(total, first=2.0, last=0.2):
    noise = random.Random(0)
    return [first * (last / first) ** (i / total) * noise.uniform(0.8, 1.2) for i in range(total)]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("step", [1, 7, 350])
def test_a_loss_that_is_not_finite_ends_the_run_at_once(value, step):
    decision = first_decision([*[0.7] * (step - 1), value], 400)
    assert (decision.reason, decision.step) == (StopReason.NON_FINITE, step)
    assert decision.message == f"the loss became {value:g} at step {step}"


def test_a_loss_that_falls_is_never_stopped():
    for total in (5, 20, 100, 400, 3000):
        assert first_decision(falling(total), total) is None


def test_a_loss_that_runs_away_is_stopped_at_the_tenth_step():
    decision = first_decision([2.0, *[50.0] * 4, 70.0, *[90.0] * 20], 400)
    assert (decision.reason, decision.step) == (StopReason.BLOW_UP, 10)
    assert decision.message == "the loss ran away from 2 to 70 by step 10"


def test_a_loss_that_runs_far_away_is_stopped_at_the_fourth_step():
    # as of a network that dies, and stays at the loss of guessing from then on
    decision = first_decision([2.0, 1e6, 1e9, 5e3, *[2.3] * 396], 400)
    assert (decision.reason, decision.step) == (StopReason.BLOW_UP, 4)
    assert decision.message == "the loss ran away from 2 to 1e+06 by step 4"


def test_a_loss_that_ran_away_and_comes_down_is_benign():
    # a real catapult rises to a hundred times the first loss and is down within ten steps
    rise = [0.06, 0.4, 3.0, 9.0, 8.0, 7.0, 5.0, 2.5, 1.0, 0.5, 0.2, 0.1]
    assert first_decision(rise + falling(400, first=0.06, last=0.01), 400) is None


def test_a_loss_that_rises_and_stays_up_is_stopped_at_the_second_check():
    decision = first_decision([2.0, *[4.0] * 399], 400)
    assert (decision.reason, decision.step) == (StopReason.BLOW_UP, 18)
    assert decision.message == ("the loss rose from 2 and stayed up: its median was 4 at step 10 and 4 at step 18")


@pytest.mark.parametrize("total", [100, 400, 3000])
def test_an_early_rise_that_comes_down_is_benign(total):
    # a catapult: three times the first loss at its top, down again within a few steps
    rise = [2.0, 3.0, 5.0, 6.0, 5.5, 5.0, 4.5, 4.0, 3.5, 3.0, 2.5]
    assert first_decision(rise + falling(total)[len(rise) :], total) is None


@pytest.mark.parametrize("step", [1, 3, 12, 40, 200, 399])
@pytest.mark.parametrize("height", [10.0, 1e6])
def test_a_single_spike_is_benign(step, height):
    losses = falling(400)
    losses[step] = height
    assert first_decision(losses, 400) is None


@pytest.mark.parametrize("first", [0.5, 0.005, 0.0, -0.4])
def test_a_log_likelihood_that_falls_through_zero_is_not_stopped(first):
    noise = random.Random(0)
    losses = [first - 0.02 * i + noise.uniform(-0.05, 0.05) for i in range(400)]
    assert first_decision(losses, 400) is None


def test_a_loss_below_zero_that_rises_and_stays_up_is_stopped():
    noise = random.Random(0)
    losses = [-1.0 + noise.uniform(-0.01, 0.01), *(2.0 + noise.uniform(-0.01, 0.01) for _ in range(399))]
    assert first_decision(losses, 400).reason is StopReason.BLOW_UP


def test_a_loss_near_zero_that_is_noisy_is_not_stopped():
    noise = random.Random(0)
    assert first_decision([noise.gauss(0, 1) for _ in range(400)], 400) is None


def test_a_rise_after_a_fifth_of_the_length_is_not_looked_for():
    assert first_decision([*[2.0] * 80, *[40.0] * 320], 400) is None
    assert first_decision([*[2.0] * 40, *[40.0] * 360], 400) is not None


def test_a_very_short_run_is_still_looked_at_twice():
    assert first_decision([2.0, *[4.0] * 19], 20).step == 18


def test_of_a_run_of_unknown_length_only_the_first_losses_are_looked_at():
    assert first_decision([2.0, *[4.0] * 19], 0).step == 18
    assert first_decision([*[2.0] * 18, *[400.0] * 400], 0) is None
    assert first_decision([*[2.0] * 400, math.nan], 0).step == 401


def test_under_a_grad_scaler_five_skipped_steps_in_a_row_are_let_pass():
    assert first_decision([2.0, *[math.inf] * 5, 2.0, *[math.nan] * 5, 1.9, 1.8], 400, skips_steps=True) is None
    decision = first_decision([2.0, 1.9, *[math.inf] * 6], 400, skips_steps=True)
    assert (decision.reason, decision.step) == (StopReason.NON_FINITE, 8)


def test_a_run_may_begin_with_skipped_steps():
    begun = [math.nan, math.inf, 2.0, math.nan, 1.9, 1.8]
    assert first_decision(begun + falling(400)[6:], 400, skips_steps=True) is None
    assert first_decision(begun + [4.0] * 394, 400, skips_steps=True).reason is StopReason.BLOW_UP


def test_what_is_switched_off_ends_nothing():
    rising, broken = [2.0, *[400.0] * 399], [2.0, math.nan, 1.9]
    assert first_decision(rising, 400, Guard.finite_only()) is None
    assert first_decision(broken, 400, Guard.finite_only()).step == 2
    assert first_decision(broken, 400, replace(GUARD, non_finite=False)) is None


def test_the_step_that_is_told_counts_those_without_a_loss():
    assert judge([2.0, math.nan], 400, GUARD, step=9).message == "the loss became nan at step 9"
    assert judge([2.0, *[99.0] * 9], 400, GUARD, step=14).step == 14


def test_it_is_known_when_a_rise_is_no_longer_looked_for():
    assert looks_for_blow_up(80, 400, GUARD)
    assert not looks_for_blow_up(81, 400, GUARD)
    assert not looks_for_blow_up(1, 400, Guard.finite_only())


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"runaway_ratio": 1}, "runaway_ratio must be > 1, got 1"),
        ({"blow_up_ratio": 0.5}, "blow_up_ratio must be > 1, got 0.5"),
        ({"blow_up_until_fraction": 1.5}, r"blow_up_until_fraction must be in \[0, 1\], got 1.5"),
        ({"window_fraction": -0.1}, r"window_fraction must be in \[0, 1\], got -0.1"),
        ({"window_steps": 0}, "window_steps must be >= 1, got 0"),
        ({"allowed_skipped_steps": -1}, "allowed_skipped_steps must be >= 0, got -1"),
        ({"read_every_steps": 0}, "read_every_steps must be >= 1, got 0"),
        ({"blow_up_ratio": math.nan}, "blow_up_ratio must be > 1, got nan"),
        ({"stall_ratio": 1.5}, r"stall_ratio must be in \(0, 1\], got 1.5"),
        ({"stall_from_fraction": -1}, r"stall_from_fraction must be in \[0, 1\], got -1"),
        ({"stall_veto_fraction": 0}, "stall_veto_fraction must be > 0, got 0"),
        ({"spike_ratio": 1}, "spike_ratio must be > 1, got 1"),
    ],
)
def test_a_setting_out_of_its_range_is_refused(setting, words):
    with pytest.raises(InputError, match=f"Guard: {words}"):
        Guard(**setting)


def test_the_argument_guard_is_understood():
    assert (Guard.of(True), Guard.of(None), Guard.of(None, default=False), Guard.of(False)) == (
        GUARD,
        GUARD,
        None,
        None,
    )
    assert Guard.of(Guard.finite_only()) == Guard.finite_only()
    with pytest.raises(InputError, match=r"guard must be an opttune.Guard, True, False or None, got 'yes'"):
        Guard.of("yes")


needs_recordings = pytest.mark.skipif(not RECORDED.is_dir(), reason="the recorded runs of ../shared/data are not here")


@needs_recordings
@pytest.mark.parametrize("table", ["own_digits_mlp_s0", "own_mnist1d_mlp_s0"])
def test_of_the_best_quarter_of_our_recorded_runs_none_is_stopped(table):
    recorded = np.load(RECORDED / "own" / f"{table}.npz")
    order = np.argsort(np.nan_to_num(recorded["val_loss"][:, -1], nan=np.inf))
    best = recorded["train_loss"][order[: len(order) // 4]]
    assert [run for run, curve in enumerate(best) if first_decision(curve.tolist(), 300)] == []
    # the rules are no idle ones: they do stop the worst
    worst = recorded["train_loss"][order[-20:]]
    assert sum(first_decision(curve.tolist(), 300) is not None for curve in worst) >= 15


@needs_recordings
@pytest.mark.slow
def test_of_the_best_quarter_of_the_deepobs_runs_none_is_stopped():
    pytest.importorskip("pyarrow")
    folder = RECORDED / "deepobs"
    runs = pd.read_parquet(folder / "do_runs.parquet").set_index("run")
    runs["final"] = pd.read_parquet(folder / "do_epochs.parquet").groupby("run")["test_loss"].agg(lambda x: x.iloc[-1])
    rank = runs.groupby("problem")["final"].rank(pct=True)
    best = runs.index[rank <= 0.25]
    curves = dict(list(pd.read_parquet(folder / "do_steps.parquet").groupby("run")))
    assert len(best) > 150
    assert [run for run in best if _stopped_in_replay(curves[run], int(runs.steps[run]))] == []


def _stopped_in_replay(curve, total):
    """Judge the first 200 steps, which are all recorded, and then each check, with the gaps filled forward."""
    steps = np.arange(int(0.2 * total) + 1)
    losses = curve.loss.to_numpy()[np.searchsorted(curve.step.to_numpy(), steps, side="right") - 1].tolist()
    distance = max(1, total // 100)
    looked_at = {*range(1, 201), *range(max(10, distance), len(losses), distance)}
    return any(judge(losses[:step], total, GUARD) for step in sorted(looked_at))


@pytest.mark.parametrize(
    ("step", "risen_until", "timing"),
    [
        (99, 1, Timing.EARLY),
        (100, 1, Timing.DUE),
        (100, 60, Timing.EARLY),
        (110, 60, Timing.DUE),
        (300, 300, Timing.EARLY),
        (500, 1, Timing.DUE),
        (501, 1, Timing.LATE),
    ],
)
def test_it_is_looked_for_from_a_tenth_of_the_length_and_after_the_warmup(step, risen_until, timing):
    assert stall_timing(step, 1000, risen_until, GUARD) is timing


def test_of_a_training_of_unknown_length_it_is_not_looked_for():
    assert stall_timing(100, 0, 1, GUARD) is Timing.LATE
    assert stall_timing(100, 1000, 1, Guard.finite_only()) is Timing.LATE


@pytest.mark.parametrize(
    ("losses", "stalled"),
    [
        ([2.0] * 50, True),
        ([2.0, *[1.995] * 49], True),
        ([2.0, *[1.98] * 49], False),
        ([2.0, *[2.9] * 49], True),
        # blow-up's to judge
        ([2.0, *[3.1] * 49], False),
        ([-1.0, *[-1.004] * 49], True),
        ([-1.0, *[-1.2] * 49], False),
        ([0.0, *[-0.1] * 49], False),
        ([0.0, *[0.0] * 49], False),
        ([0.1, *[0.1] * 49], True),
        ([math.nan, 2.0, *[1.0] * 48], False),
        ([math.nan], False),
    ],
)
def test_a_loss_has_stalled_that_has_not_fallen_by_half_a_percent(losses, stalled):
    assert has_stalled(losses, GUARD) is stalled


@pytest.mark.parametrize(
    ("values", "mode", "improved"),
    [
        ([2.0, 1.97], "min", False),
        ([2.0, 1.95], "min", True),
        ([2.0, 1.9, 5.0], "min", True),
        ([2.0, 3.0], "min", False),
        ([0.10, 0.11], "max", True),
        ([0.10, 0.1001], "max", False),
        ([-5.0, -5.2], "min", True),
        ([0.0, 0.01], "max", True),
        ([0.0, 0.0], "max", False),
        ([2.0, math.nan], "min", False),
        ([math.nan, 2.0], "min", False),
    ],
)
def test_a_validation_has_improved_by_two_percent_of_the_first(values, mode, improved):
    assert has_improved(values, mode, GUARD) is improved


def test_the_decision_names_the_numbers():
    decision = judge_stall([2.0] * 50, [2.0, 1.99], "min", GUARD, 50)
    assert (decision.reason, decision.step) == (StopReason.STALL, 50)
    assert decision.message == (
        "the loss did not fall: its median was 2 at step 50, the first 2; nor did a validation improve by 2%"
    )
    assert judge_stall([2.0] * 50, [2.0, 1.9], "min", GUARD, 50) is None
    assert judge_stall([2.0, *[1.0] * 49], [2.0, 2.0], "min", GUARD, 50) is None


def test_the_former_name_of_a_decision_still_works_and_warns():
    with pytest.warns(DeprecationWarning, match="is now called StopDecision"):
        from opttune.guard.rules import Verdict
    assert Verdict is StopDecision
    with pytest.raises(ImportError):
        from opttune.guard.rules import Nothing  # noqa: F401
