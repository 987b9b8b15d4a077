import json
from math import inf, isnan, nan

from opttune.engines.messages import MessageWriter, dispatch
from opttune.guard.steps import StepRecord
from tests.support.listeners import RecordingListener


def test_a_listener_takes_what_was_written_as_if_the_training_ran_here() -> None:
    listener, lines = RecordingListener(), list[str]()
    writer = MessageWriter(lines.append)
    records = [StepRecord(1, 0.1, 1e-3, None), StepRecord(2, None, 1e-3, 0.30000000000000004)]
    writer.steps(records)
    writer.metrics(2, {"val_loss": 0.25, "worst": inf})
    writer.write({"resident_mb": 12})
    for line in lines:
        assert line.endswith("\n")
        dispatch(json.loads(line), listener)

    assert listener.records == records
    assert listener.reports == [(2, {"val_loss": 0.25, "worst": inf})]


def test_a_loss_that_is_nan_arrives_as_nan() -> None:
    listener, lines = RecordingListener(), list[str]()
    MessageWriter(lines.append).steps([StepRecord(1, nan, 1e-3, nan)])
    dispatch(json.loads(lines[0]), listener)

    assert isnan(listener.records[0].loss or 0.0)
