from types import MethodType

import pytest

from opttune.trainer.hooks import ReplacedHook
from tests.support import models as m


@pytest.mark.parametrize("is_bound", [False, True], ids=["of the class", "bound on the instance"])
def test_a_hook_is_as_it_was_after_it_is_restored(is_bound: bool) -> None:
    module = m.Net()
    if is_bound:
        module.configure_optimizers = MethodType(lambda self: "bound", module)
    before = dict(vars(module))
    replaced = ReplacedHook(module, "configure_optimizers", lambda: "other")
    assert module.configure_optimizers() == "other"

    replaced.restore()
    assert vars(module) == before
    assert (module.configure_optimizers() == "bound") is is_bound


def test_a_second_replacement_is_taken_back_before_the_first() -> None:
    module = m.Net()
    first = ReplacedHook(module, "on_train_start", lambda: "first")
    second = ReplacedHook(module, "on_train_start", lambda: "second")
    assert module.on_train_start() == "second"
    second.restore()
    assert module.on_train_start() == "first"
    first.restore()
    assert "on_train_start" not in vars(module)
