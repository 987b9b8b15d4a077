"""Gather each optimizer step's numbers as tensors, and read those of several steps in one transfer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from opttune.build.own_knobs import largest_rate
from opttune.trainer.transfer import Transfer


@dataclass(frozen=True, slots=True)
class StepRecord:
    """The numbers of one optimizer step.

    Attributes:
        step: The step, counted from 1.
        loss: Mean training loss over the batches of the step; None if the module returned none.
        lr: Learning rate of the step: the largest of all groups.
        grad_norm: Norm of all gradients before clipping; None if it was not computed.
    """

    step: int
    loss: float | None
    lr: float
    grad_norm: float | None


_Step = tuple[int, Tensor | None, float, Tensor | None]


class StepGatherer:
    """Collects the numbers of optimizer steps without making the device wait.

    Args:
        with_grad_norm: Whether to compute the norm of the gradients too.
    """

    def __init__(self, with_grad_norm: bool) -> None:
        self.with_grad_norm = with_grad_norm
        self._batch_losses: list[Tensor] = []
        self.lr = 0.0
        self._grad_norms: dict[int, Tensor] = {}
        self._waiting: list[_Step] = []
        self._sent: list[tuple[list[_Step], Transfer]] = []

    @property
    def is_on_cpu(self) -> bool:
        """Whether the gathered steps can be read without a transfer."""
        numbers = [number for _, loss, _, norm in self._waiting for number in (loss, norm) if number is not None]
        return all(number.device.type == "cpu" for number in numbers)

    def __len__(self) -> int:
        return len(self._waiting)

    def before_step(self, optimizer: Any) -> None:
        """Note the learning rate and the norm of the gradients of the next step."""
        self.lr = largest_rate(optimizer)
        if self.with_grad_norm:
            gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            dense = [gradient for gradient in gradients if gradient.layout == torch.strided]
            norm = torch.nn.utils.get_total_norm(dense).detach() if dense else None
            self._grad_norms |= {} if norm is None else {id(optimizer): norm}

    def add_batch(self, outputs: Tensor | Mapping[str, Any] | None, accumulated: int) -> None:
        """Note a batch's loss as the Trainer returns it: divided by the batches of a step."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if isinstance(loss, Tensor):
            loss = loss.detach()
            self._batch_losses.append(loss * accumulated if accumulated > 1 else loss)

    def end_step(self, step: int) -> None:
        """Close the step: its loss is the mean over its batches, its norm that over all optimizers."""
        losses = self._batch_losses
        loss = None if not losses else losses[0] if len(losses) == 1 else torch.stack(losses).mean()
        norms = list(self._grad_norms.values())
        norm = None if not norms else norms[0]
        if len(norms) > 1:
            norm = torch.stack([one.to(norms[0].device) for one in norms]).norm()
        self._waiting.append((step, loss, self.lr, norm))
        self._batch_losses, self._grad_norms = [], {}

    def send(self) -> None:
        """Start one transfer of the gathered steps."""
        if self._waiting:
            numbers = [
                x.reshape(()).float() for _, loss, _, norm in self._waiting for x in (loss, norm) if x is not None
            ]
            self._sent.append((self._waiting, Transfer(_on_one_device(numbers))))
            self._waiting = []

    def take(self, wait: bool = False) -> list[StepRecord]:
        """Return the sent steps that have arrived, or with `wait` all of them.

        Of two transfers it waits for the first: the device still has the steps of the second to do.
        """
        records: list[StepRecord] = []
        while self._sent and (wait or len(self._sent) > 1 or self._sent[0][1].has_arrived):
            steps, transfer = self._sent.pop(0)
            records += _records(steps, transfer.read())
        return records

    def read(self) -> list[StepRecord]:
        """Return all steps that have not been returned yet, in order."""
        if self._sent or len(self._waiting) > 1:
            self.send()
            return self.take(wait=True)
        # for a single step on a CPU a transfer costs more than it saves
        numbers = [float(x) for _, loss, _, norm in self._waiting for x in (loss, norm) if x is not None]
        steps, self._waiting = self._waiting, []
        return _records(steps, numbers)


def _on_one_device(numbers: list[Tensor]) -> Tensor:
    """Return numbers as one tensor: a module that is spread over devices has loss and norm on different ones."""
    if not numbers:
        return torch.empty(0)
    device = next((number.device for number in numbers if number.device.type != "cpu"), numbers[0].device)
    return torch.stack([number.to(device, non_blocking=True) for number in numbers])


def _records(steps: list[_Step], numbers: list[float]) -> list[StepRecord]:
    values = iter(numbers)
    return [
        StepRecord(step, None if loss is None else next(values), lr, None if norm is None else next(values))
        for step, loss, lr, norm in steps
    ]
