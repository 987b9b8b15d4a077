import inspect

import pytest

from opttune.guard.callback import GuardCallback
from opttune.trainer.namespaces import AnyCallback
from opttune.training.attach import RecipeAttacher
from opttune.training.callbacks import CallbackGroup
from opttune.training.ending import FinishWithValidation
from opttune.training.metrics import MetricsReporter
from opttune.training.modes import EvalModeSwitch, GraphKeeper
from tests.support import models as m

PARTS = (RecipeAttacher, GuardCallback, FinishWithValidation, MetricsReporter, EvalModeSwitch, GraphKeeper)


def hooks(cls):
    return {name for name, _ in inspect.getmembers(AnyCallback, inspect.isfunction) if name in vars(cls)} - {"__init__"}


@pytest.mark.parametrize("part", PARTS)
def test_every_hook_that_a_part_uses_is_passed_on(part):
    assert hooks(part) <= hooks(CallbackGroup)


def noting(calls, name):
    def note(hook):
        return lambda self, *args, **kwargs: calls.append((name, hook))

    return type("Part", (AnyCallback,), {hook: note(hook) for hook in hooks(CallbackGroup)})()


def test_the_parts_are_called_in_their_order():
    calls = []
    group = CallbackGroup(noting(calls, "first"), noting(calls, "second"))
    m.quiet_trainer(group, max_steps=1).fit(m.Net(), *m.loaders())
    assert [name for name, _ in calls] == ["first", "second"] * (len(calls) // 2)
    assert [hook for name, hook in calls if name == "first"] == [
        "setup",
        "on_fit_start",
        "on_train_start",
        "on_train_epoch_start",
        "on_train_batch_start",
        "on_before_optimizer_step",
        "on_train_batch_end",
        "on_train_end",
        "teardown",
    ]


def test_an_error_is_passed_on():
    calls = []
    with pytest.raises(RuntimeError, match="a bug of the user's own"):
        m.quiet_trainer(CallbackGroup(noting(calls, "one")), max_steps=9).fit(m.FailingNet(), *m.loaders())
    assert calls[-1] == ("one", "on_exception")
