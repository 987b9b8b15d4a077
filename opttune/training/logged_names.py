"""When a module logs its metrics: not before a later validation, or at each step of the training."""

import inspect
from collections.abc import Collection, Iterable, Iterator
from types import CodeType
from typing import Any

from opttune.trainer.namespaces import AnyCallback
from opttune.training.metrics import read_metrics

_LIBRARIES = ("lightning", "pytorch_lightning", "torch", "torchmetrics", "opttune", "builtins")
_LEAST_LETTERS = 3


class StepMetrics(AnyCallback):
    """Finds the metrics that a module logs at each step of the training, and in no validation."""

    def __init__(self) -> None:
        super().__init__()
        self._names: frozenset[str] | None = None
        self._before: dict[str, float] = {}
        self._validated: set[str] = set()
        self._is_one_batch = False

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Note the metrics of the first step, before a validation and the end of an epoch, where others come."""
        if self._names is None:
            self._names = frozenset(trainer.callback_metrics)
            self._is_one_batch = trainer.num_training_batches == 1

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Note the values before the validation."""
        self._before = read_metrics(trainer.callback_metrics)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Note the metrics that the validation has changed."""
        after = read_metrics(trainer.callback_metrics)
        self._validated |= {name for name, value in after.items() if value != self._before.get(name)}

    def note(self, monitor: str) -> str:
        """Return a sentence if the monitored metric is that of one batch; else empty."""
        if not self._names or monitor not in self._names or monitor in self._validated or self._is_one_batch:
            return ""
        # with on_epoch as well, Lightning gives the value of the step another name
        prefix = f"{monitor}_"
        if f"{prefix}step" in self._names:
            return ""
        return (
            f"{monitor} is logged at each step of the training, so its value is that of the last batch alone. Monitor "
            f"a metric of the validation, or log the mean: self.log({monitor!r}, value, on_step=False, on_epoch=True)."
        )


def may_log(trainer: Any, monitor: str, logged: Collection[str]) -> bool:
    """Return whether the user's code names a metric, so it may be logged later: every n-th epoch, or at the end.

    A name may be made of parts, as in `f"{stage}_fid"`: its end counts as well, unless a logged metric ends alike.

    Args:
        trainer: The Trainer, after a fit with one validation.
        monitor: The metric.
        logged: The metrics logged until then.
    """
    module = trainer.lightning_module
    owners = [module, *trainer.callbacks]
    # an attribute, such as a hyperparameter, may contain the name
    own = [value for value in vars(module).values() if isinstance(value, str)]
    texts = {*own, *(text for owner in owners for text in _texts(owner, validates(trainer)))}
    ends = [text for text in texts if len(text) >= _LEAST_LETTERS and monitor.endswith(text)]
    return any(text == monitor or not any(name.endswith(text) for name in logged) for text in ends)


def validates(trainer: Any) -> bool:
    """Return whether a Trainer has validation data, after its fit."""
    return any(trainer.num_val_batches)


def _texts(owner: Any, has_validation: bool) -> Iterator[str]:
    for name in dir(type(owner)):
        # a schedule or a callback that is configured there follows a metric that is logged elsewhere
        if name.startswith("configure_") or ("validation" in name and not has_validation):
            continue
        for code in _codes(type(owner), name):
            yield from _constants(code)


def _codes(kind: type, name: str) -> Iterator[CodeType]:
    """Return the code of the user's method of that name, and of the methods that it calls with `super()`."""
    for function in (vars(each)[name] for each in kind.__mro__ if name in vars(each)):
        function = inspect.unwrap(getattr(function, "__func__", function)) if callable(function) else function
        if not inspect.isfunction(function) or function.__module__.partition(".")[0] in _LIBRARIES:
            return
        yield function.__code__
        if "super" not in function.__code__.co_names:
            return


def _constants(code: CodeType) -> Iterator[str]:
    for constant in code.co_consts:
        if isinstance(constant, str) and constant != code.co_name:
            yield constant
        elif isinstance(constant, CodeType):
            yield from _constants(constant)
        elif isinstance(constant, tuple):
            yield from _strings(constant)


def _strings(values: Iterable[Any]) -> Iterator[str]:
    return (value for value in values if isinstance(value, str))
