"""One decision for all ranks: rank 0 decides, all ranks stop at the same step."""

import os
import pickle
from collections import deque
from typing import Any, TypeVar

import torch

from opttune.trainer.transfer import Transfer

T = TypeVar("T")

_SENT: deque[Any] = deque(maxlen=2)
"""The last length and content exchanged: kept so that this thread frees them."""


class SharedDecision:
    """Gives rank 0's decision to every rank; all ranks must call `share` at the same steps.

    Between CPUs the decision arrives at once. On an accelerator it arrives only after all work queued before it, so
    each rank uses the decision that was sent by the previous call.
    """

    def __init__(self) -> None:
        self._sent: Transfer | None = None

    def share(self, trainer: Any, stop: bool) -> bool:
        """Return rank 0's decision.

        Args:
            trainer: The Trainer.
            stop: This rank's decision; only rank 0's counts.
        """
        if trainer.world_size == 1:
            return stop
        sent = self._sent
        # filled on the device: copying a value there would make this process wait
        decision = torch.full((1,), float(stop), device=trainer.strategy.root_device)
        torch.distributed.broadcast(decision, src=0)
        latest = Transfer(decision)
        if trainer.strategy.root_device.type == "cpu":
            return bool(latest.read()[0])
        self._sent = latest
        return sent is not None and bool(sent.read()[0])


def from_rank_zero(trainer: Any, value: T) -> T:
    """Return rank 0's value on every rank; it synchronises the ranks, so call it rarely."""
    if trainer.world_size == 1:
        return value
    device = trainer.strategy.root_device
    words = torch.frombuffer(bytearray(pickle.dumps(value)), dtype=torch.uint8).to(device)
    length = torch.tensor([len(words)], device=device)
    _send(length)
    if not trainer.is_global_zero:
        words = torch.empty(int(length), dtype=torch.uint8, device=device)
    _send(words)
    told: T = pickle.loads(words.cpu().numpy().tobytes())
    return told


def _send(tensor: torch.Tensor) -> None:
    """Fill a tensor with rank 0's values."""
    sent = torch.distributed.broadcast(tensor, src=0, async_op=True)
    sent.wait()
    # the last owner of the exchange frees its tensor, and a thread of gloo would need the interpreter for that;
    # in a process that ends right after its last exchange the interpreter is gone by then, and the process aborts
    _SENT.append(sent)


def is_launched_rank() -> bool:
    """Return whether this process was started as a further rank of a training, which runs the user's script again.

    Lightning's launcher and torchrun show this before there is a Trainer, and between its fits.
    """
    return any(os.environ.get(name, "0") != "0" for name in ("RANK", "LOCAL_RANK", "NODE_RANK"))


def of_all_ranks(trainer: Any, value: T) -> list[T]:
    """Return every rank's value on every rank, in the order of the ranks."""
    if trainer.world_size == 1:
        return [value]
    found: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(found, value)
    return found
