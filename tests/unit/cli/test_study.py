import argparse

from opttune.cli.study import add_study, add_tracking_uri


def test_a_study_is_a_name_or_a_folder_with_its_storage() -> None:
    parser = argparse.ArgumentParser()
    add_study(parser)
    add_tracking_uri(parser)
    options = parser.parse_args(["s", "--storage", "sqlite:///a.db", "--tracking-uri", "http://x"])

    assert (options.study, options.storage, options.tracking_uri) == ("s", "sqlite:///a.db", "http://x")
