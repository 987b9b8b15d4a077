import re

from opttune.version import __version__


def test_the_version_is_one_that_packages_may_have() -> None:
    assert re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+((a|b|rc|\.dev)[0-9]+)?", __version__)
