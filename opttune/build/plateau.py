"""torch's `ReduceLROnPlateau`, with or without a warmup.

A metric cannot show a plateau while the rate still rises. Therefore checks in the warmup do not count, as in timm's
`PlateauLRScheduler`. After the warmup, only the metric changes the rate.
"""

from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau


class WarmedReduceLROnPlateau(ReduceLROnPlateau):
    """Raises the rates linearly over the first steps, and then follows the metric like torch's scheduler.

    Call `step()` after each optimizer step, and `step(metric)` after each check. Step `i` (counted from 0) gets
    `(i + 1) / warmup_steps` of each group's `initial_lr`, as under any other schedule.

    Args:
        optimizer: Its groups' rates are the peak rates.
        warmup_steps: Steps until the peak; 0 for no warmup.
        **settings: Settings of torch's scheduler.
    """

    def __init__(self, optimizer: Optimizer, warmup_steps: int, **settings: Any) -> None:
        super().__init__(optimizer, **settings)
        self.warmup_steps, self.steps_done = warmup_steps, 0
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        self._scale()

    def step(self, metrics: Any = None, epoch: Any = None) -> None:  # type: ignore[override]
        """Count an optimizer step, or do a check with a metric; checks in the warmup change nothing."""
        if metrics is not None:
            if self.steps_done >= self.warmup_steps:
                super().step(metrics, epoch)
        elif self.steps_done < self.warmup_steps:
            self.steps_done += 1
            self._scale()

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a resumed run, which has its own length of the warmup."""
        state = dict(super().state_dict())
        del state["warmup_steps"]
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a state; the optimizer's state must be loaded before."""
        super().load_state_dict(state_dict)
        # in the warmup, whose length may differ in the resumed run
        if self.last_epoch == 0:
            self._scale()

    def _scale(self) -> None:
        factor = min(1.0, (self.steps_done + 1) / max(1, self.warmup_steps))
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]


def reduce_on_plateau(
    optimizer: Optimizer,
    mode: Literal["min", "max"],
    warmup_steps: int,
    decay_factor: float,
    patience_checks: int,
    improvement_fraction: float,
    final_lr_fraction: float,
) -> ReduceLROnPlateau:
    """Build torch's scheduler that lowers the rate when the monitored metric no longer improves.

    Args:
        optimizer: Its groups' rates are the peak rates.
        mode: Whether to minimize or maximize the metric.
        warmup_steps: Optimizer steps of the linear warmup before the scheduler follows the metric; 0 for none.
        decay_factor: Factor of the rate at each drop, in (0, 1).
        patience_checks: Checks without improvement before a drop, >= 0.
        improvement_fraction: Smallest relative improvement that counts, >= 0.
        final_lr_fraction: Lowest rate, as a share of each group's peak rate.
    """
    settings: dict[str, Any] = {
        "mode": mode,
        "factor": decay_factor,
        "patience": patience_checks,
        "threshold": improvement_fraction,
        "min_lr": [group["lr"] * final_lr_fraction for group in optimizer.param_groups],
    }
    if warmup_steps == 0:
        return ReduceLROnPlateau(optimizer, **settings)
    return WarmedReduceLROnPlateau(optimizer, warmup_steps, **settings)
