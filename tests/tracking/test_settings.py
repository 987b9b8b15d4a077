from opttune.tracking import Tracking


def test_by_default_curves_are_thinned_the_report_is_made_and_nothing_else_is_logged() -> None:
    assert Tracking() == Tracking(thin=True, log_model=False, report=True)
