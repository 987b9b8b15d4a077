"""What the commands on a search that was made share: how STUDY is named."""

import argparse


def add_study(command: argparse.ArgumentParser) -> None:
    """Add STUDY and `--storage`."""
    command.add_argument(
        "study", metavar="STUDY", help="name of a study (in --storage or ./opttune_runs), or the folder of its search"
    )
    command.add_argument("--storage", metavar="URL", help="Optuna storage (default: the journal in the folder)")


def add_tracking_uri(command: argparse.ArgumentParser) -> None:
    """Add `--tracking-uri`."""
    command.add_argument("--tracking-uri", metavar="URI", help="MLflow (default: where the search wrote to)")
