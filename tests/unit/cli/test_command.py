import argparse

import pytest

from opttune.cli.command import DONE, add_command


def test_every_command_has_json_debug_and_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_command(parser.add_subparsers(), "greet", "say hello", lambda options: DONE)
    options = parser.parse_args(["greet", "--json", "--debug"])

    assert (options.json, options.debug, options.run(options)) == (True, True, DONE)
    with pytest.raises(SystemExit):
        parser.parse_args(["greet", "--help"])
    assert "Say hello." in capsys.readouterr().out
    with pytest.raises(SystemExit):
        parser.parse_args(["greet", "--js"])
