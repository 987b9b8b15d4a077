"""One decision for all ranks: rank 0 decides, all ranks stop at the same step."""

from typing import Any, TypeVar

import torch

from opttune.guard.steps import Transfer

T = TypeVar("T")


class SharedDecision:
    """Hands rank 0's decision to every rank; all must ask at the same steps.

    Between CPUs it is there at once. From an accelerator it would be there only once the device has done all that it
    was told before, so each rank takes the one that was sent when it was asked last.
    """

    def __init__(self) -> None:
        self._sent: Transfer | None = None

    def share(self, trainer: Any, stop: bool) -> bool:
        """Return rank 0's decision.

        Args:
            trainer: The Trainer.
            stop: What this rank would do; only rank 0's counts.
        """
        if trainer.world_size == 1:
            return stop
        sent = self._sent
        # filled on the device: a value from here would make this process wait for it
        decision = torch.full((1,), float(stop), device=trainer.strategy.root_device)
        torch.distributed.broadcast(decision, src=0)
        latest = Transfer(decision)
        if trainer.strategy.root_device.type == "cpu":
            return bool(latest.read()[0])
        self._sent = latest
        return sent is not None and bool(sent.read()[0])


def from_rank_zero(trainer: Any, value: T) -> T:
    """Return rank 0's value on every rank; for the few moments of a training at which one matters."""
    if trainer.world_size == 1:
        return value
    told: T = trainer.strategy.broadcast(value, src=0)
    return told


def of_all_ranks(trainer: Any, value: T) -> list[T]:
    """Return every rank's value on every rank, in their order."""
    if trainer.world_size == 1:
        return [value]
    found: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(found, value)
    return found
