import inspect

import pytest

from opttune.engines.engine import Engine
from opttune.engines.inline import InlineEngine
from opttune.engines.local import LocalEngine


@pytest.mark.parametrize("kind", [InlineEngine, LocalEngine])
def test_every_engine_offers_the_same(kind: type) -> None:
    offered = [name for name, _ in inspect.getmembers(Engine, inspect.isfunction) if not name.startswith("_")]

    assert offered == ["close", "next_done", "stop", "submit"]
    for name in offered:
        assert inspect.signature(getattr(kind, name)) == inspect.signature(getattr(Engine, name)), name
    assert isinstance(kind.trains_here, bool)
