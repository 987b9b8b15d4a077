import argparse

import pytest

from opttune.cli.command import DONE, CommandParser, add_command, add_study, add_tracking_uri


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


def test_an_unknown_flag_is_refused_by_its_own_command_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    parser = CommandParser(prog="tool")
    add_command(parser.add_subparsers(), "greet", "say hello", lambda options: DONE)

    for arguments, said in (
        (["--jsno"], "unknown: --jsno (did you mean --json?)"),
        (["hello"], "unknown: hello"),
        # each flag with its own hint; a value belongs to its flag
        (["--jsno", "yes", "--debgu=1", "all", "--zz"], "unknown: --jsno (did you mean --json?), --debgu (did you mean "
         "--debug?), all, --zz"),
    ):  # fmt: skip
        with pytest.raises(SystemExit) as ended:
            parser.parse_args(["greet", *arguments])
        assert ended.value.code == 2
        assert capsys.readouterr().err == f"tool greet: {said}. tool greet --help lists all options.\n"


def test_every_wrong_argument_is_one_line_without_usage(capsys: pytest.CaptureFixture[str]) -> None:
    parser = CommandParser(prog="tool")
    add_command(parser.add_subparsers(), "greet", "say hello", lambda options: DONE).add_argument("--n", type=int)
    with pytest.raises(SystemExit):
        parser.parse_args(["greet", "--n", "x"])

    assert capsys.readouterr().err == (
        "tool greet: argument --n: invalid int value: 'x'. tool greet --help lists all options.\n"
    )


def test_a_study_is_a_name_or_a_folder_with_its_storage() -> None:
    parser = argparse.ArgumentParser()
    add_study(parser)
    add_tracking_uri(parser)
    options = parser.parse_args(["s", "--storage", "sqlite:///a.db", "--tracking-uri", "http://x"])

    assert (options.study, options.storage, options.tracking_uri) == ("s", "sqlite:///a.db", "http://x")
