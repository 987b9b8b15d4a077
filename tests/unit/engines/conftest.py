import sys

import pytest

from tests.support.warm import warm_python


@pytest.fixture
def warm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers and ranks begin with everything loaded."""
    monkeypatch.setattr(sys, "executable", warm_python())
