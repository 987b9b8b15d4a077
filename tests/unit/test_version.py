"""The version, and the command that prints it."""

import re
from pathlib import Path

import pytest

from opttune.version import __version__
from tests.support.searches import run_command


def test_the_version_is_one_that_packages_may_have() -> None:
    assert re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+((a|b|rc|\.dev)[0-9]+)?", __version__)


@pytest.mark.slow
def test_the_package_runs_as_the_command(tmp_path: Path) -> None:
    done = run_command(tmp_path, "--version")

    assert (done.returncode, done.stdout) == (0, f"opttune {__version__}\n")
