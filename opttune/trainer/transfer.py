"""Transfers of numbers from a device to this process that do not block."""

import torch
from torch import Tensor


class Transfer:
    """A transfer of numbers from a device to this process, which does not wait for it.

    Args:
        numbers: The numbers, one tensor of one dimension.
    """

    def __init__(self, numbers: Tensor) -> None:
        self._numbers = numbers
        self._event: torch.cuda.Event | None = None
        if numbers.device.type == "cuda":
            self._numbers = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
            self._numbers.copy_(numbers, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            # the copy is in the stream of the numbers' own device, which need not be the current one
            self._event.record(torch.cuda.current_stream(numbers.device))

    @property
    def has_arrived(self) -> bool:
        """Whether `read` would not wait; always False for an accelerator other than CUDA."""
        if self._event is not None:
            return bool(self._event.query())  # type: ignore[no-untyped-call]
        return self._numbers.device.type == "cpu"

    def read(self) -> list[float]:
        """Wait for the numbers and return them."""
        if self._event is not None:
            self._event.synchronize()
        return self._numbers.tolist()
