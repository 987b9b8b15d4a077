"""The thin Lightning hook around the rules: gather, read, judge, stop."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from opttune.errors import InputError
from opttune.guard.rules import Guard, Verdict, judge, looks_for_blow_up
from opttune.guard.steps import StepGatherer, StepRecord
from opttune.guard.stop import EarlyEnd
from opttune.namespaces import AnyCallback

RecordsListener = Callable[[list[StepRecord]], None]


class GuardCallback(AnyCallback):
    """Stops a training run that cannot come to anything, in its first steps; no search needed.

    A stopped run ends in good order: no validation follows, `trainer.fit` returns, `verdict` says why.

    Args:
        guard: The settings; None takes the usual ones.
        listener: Called with the numbers of each step as they are read; tracking hangs on here.

    Attributes:
        verdict: Why the run was stopped, or None.

    Example:
        >>> callback = GuardCallback()
        >>> callback.verdict is None
        True
    """

    def __init__(self, guard: Guard | bool | None = None, *, listener: RecordsListener | None = None) -> None:
        super().__init__()
        self.guard = Guard.of(guard)
        if self.guard is None and listener is None:
            raise InputError("GuardCallback: guard=False guards nothing; leave the callback out.")
        self.verdict: Verdict | None = None
        self._listener = listener
        self._early_end = EarlyEnd()
        self._reset(0, 0)

    def _reset(self, step: int, total_steps: int) -> None:
        self._gatherer = StepGatherer(with_grad_norm=self._listener is not None)
        self._losses: list[float] = []
        # a resumed run's first losses are not known: rising is no longer told from having fallen less
        self._rules = self.guard if self.guard is None or step == 0 else replace(self.guard, blow_up=False)
        self._step = step
        self._total_steps = total_steps

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Start anew, from the step at which a resumed run stands."""
        self.verdict = None
        total = trainer.estimated_stepping_batches
        self._reset(trainer.global_step, int(total) if 0 < total < float("inf") else 0)

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Note the learning rate and gradients of the step to come."""
        self._gatherer.before_step(optimizer)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Note the batch; at the end of an optimizer step judge the run."""
        self._gatherer.add_batch(outputs, trainer.accumulate_grad_batches)
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        self._gatherer.end_step(self._step)
        if self._is_time_to_read(trainer):
            self._read(trainer)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Hand on the steps that were not read yet."""
        if len(self._gatherer):
            self._read(trainer)

    def progress(self) -> dict[str, Any]:
        """Return what it remembers of the steps so far, as plain values: for a training that is paused."""
        return {"losses": list(self._losses), "blow_up": self._rules is not None and self._rules.blow_up}

    def go_on_from(self, progress: Mapping[str, Any]) -> None:
        """Take up what `progress` gave, after `on_train_start` of the resumed training."""
        self._losses = list(progress["losses"])
        self._rules = self.guard and replace(self.guard, blow_up=progress["blow_up"])

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Put the Trainer's settings back."""
        self._early_end.restore()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Put the Trainer's settings back."""
        self._early_end.restore()

    def _is_time_to_read(self, trainer: Any) -> bool:
        every = self.guard.read_every_steps if self.guard else 10
        return len(self._gatherer) >= every or (trainer.world_size == 1 and self._gatherer.is_on_cpu)

    def _read(self, trainer: Any) -> None:
        records = self._gatherer.read()
        if self._listener is not None:
            self._listener(records)
        verdict = self._judge(records, trainer)
        if _all_ranks_stop(trainer, verdict is not None) and self.verdict is None:
            self.verdict = verdict
            self._early_end.end(trainer, validate=False)
            if verdict is not None and self._listener is None:
                warnings.warn(f"opttune stopped the training: {verdict.message}.", stacklevel=2)

    def _judge(self, records: list[StepRecord], trainer: Any) -> Verdict | None:
        if self._rules is None:
            return None
        skips = getattr(trainer.precision_plugin, "scaler", None) is not None
        for record in records:
            if record.loss is None:
                continue
            self._losses.append(record.loss)
            verdict = judge(self._losses, self._total_steps, self._rules, skips, record.step)
            if verdict is not None:
                return verdict
            if not looks_for_blow_up(len(self._losses), self._total_steps, self._rules):
                self._rules = replace(self._rules, blow_up=False)
                del self._losses[: -self._rules.allowed_skipped_steps - 1]
        return None


def _all_ranks_stop(trainer: Any, stop: bool) -> bool:
    """Return rank 0's decision on every rank."""
    if trainer.world_size == 1:
        return stop
    decision = torch.tensor(float(stop), device=trainer.strategy.root_device)
    torch.distributed.broadcast(decision, src=0)
    return bool(decision.item())
