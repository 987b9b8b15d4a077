import json
from pathlib import Path

import pytest

from opttune.cli import BAD_INPUT, DONE, NO_TRIAL, main
from opttune.tracking.writer import TrackingWriter
from tests.support.searches import make_database


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    writer = TrackingWriter("http://127.0.0.1:9", tmp_path / "opttune_runs" / "s" / "spool", flush_seconds=0.05)
    writer.open_run("k", "run", experiment="some", tags={})
    writer.close(0.2)
    return tmp_path


def test_what_waits_is_delivered_and_counted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uri = make_database(folder)
    assert main(["sync", "--tracking-uri", uri]) == DONE
    assert capsys.readouterr().out == "opttune_runs/s: 1 entries delivered\n"

    assert main(["sync", "--tracking-uri", uri]) == DONE
    assert capsys.readouterr().out == "nothing waits for delivery\n"


def test_what_cannot_be_delivered_waits_on_and_is_exit_code_1(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sync", "--tracking-uri", "http://127.0.0.1:9", "--timeout", "0.5", "--json"]) == NO_TRIAL
    (plain,) = json.loads(capsys.readouterr().out)

    assert (plain["delivered"], plain["waiting"]) == (0, 1)
    assert main(["sync", "nosuch"]) == BAD_INPUT
