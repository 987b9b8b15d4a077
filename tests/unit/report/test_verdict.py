import pytest

from opttune.confirming.candidates import choose_candidates
from opttune.job import Role, TrainingJob
from opttune.outcome import Outcome, StopReason
from opttune.report.verdict import verdict_chart
from opttune.study.frozen_study import FrozenStudy
from tests.support.records import full_study, make_run


def confirmed_study() -> FrozenStudy:
    candidates = choose_candidates(full_study(), top=2)
    runs = [
        make_run(
            TrainingJob(candidate.recipe, seed, Role.CONFIRMATION),
            Outcome(StopReason.COMPLETED, 0.1 * place + 0.01 * seed, 100, 100, 1.0),
        )
        for place, candidate in enumerate(candidates)
        for seed in (1, 2, 3)
    ]
    confirmed = {"candidates": [one.to_dict() for one in candidates], "seeds": [1, 2, 3]}
    return full_study(confirmed=confirmed, runs=runs)


def test_each_candidate_has_a_row_with_its_values_and_its_mean() -> None:
    chart = verdict_chart(confirmed_study())
    assert chart is not None
    (panel,) = chart.panels
    values, means = panel.series

    assert list(panel.rows) == ["AdamW's default", "your optimizer", "muon 2e-2", "muon 5e-2"]
    assert len(values.x) == 12
    assert means.x[-1] == pytest.approx(0.02)
    assert all(spread > 0 for spread in means.spread)


def test_before_a_verdict_there_is_no_chart() -> None:
    assert verdict_chart(full_study()) is None
