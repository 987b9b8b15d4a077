"""A recipe's schedule as a function of the optimizer step, and the torch scheduler that applies it.

A shape (`opttune.build.shapes`) maps the `progress` of the part after the warmup, in [0, 1], to a factor of the peak
learning rate. `multiplier` adds the linear warmup. The factor multiplies each group's rate, so the ratios between
groups stay.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from opttune.build.load import load_object
from opttune.catalog.check import split_warmup
from opttune.catalog.info import ScheduleInfo
from opttune.catalog.lookup import find_schedule
from opttune.errors import RecipeError
from opttune.recipe import Part

Mode = Literal["min", "max"]


def multiplier(schedule: Part, total_steps: int) -> Callable[[int], float]:
    """Return the factor of the peak learning rate as a function of the optimizer step.

    A schedule with a warmup of a share of the steps has `w = round(share * total_steps)`; without a warmup `w` is 0.
    Step `i` (counted from 0) gets `(i + 1) / w` while `i < w`, so no step is wasted at rate 0, and
    `shape((i - w) / (total_steps - w))` afterwards. After the last step, the factor keeps its final value.

    Args:
        schedule: Name and options, from a recipe.
        total_steps: Optimizer steps of the full length, >= 1.

    Returns:
        A function from step to factor.

    Raises:
        UnknownNameError: The catalog has no such schedule.
        RecipeError: The schedule follows the monitored metric, not a curve.

    Example:
        >>> factor = multiplier(Part("linear", {"warmup_fraction": 0.2}), total_steps=10)
        >>> [round(factor(step), 3) for step in (0, 1, 2, 6, 10, 99)]
        [0.5, 1.0, 1.0, 0.5, 0.0, 0.0]
    """
    info = find_schedule(schedule.name)
    if not has_curve(info):
        why = "is the module's own" if info.is_own else "follows the monitored metric"
        raise RecipeError(f"schedule {info.name!r} {why}: it has no curve.")
    warmup_share, options = split_warmup(schedule, info)
    shape: Callable[..., float] = load_object(info.shape)
    warmup_steps = round(warmup_share * total_steps)
    decay_steps = max(1, total_steps - warmup_steps)

    def factor(step: int) -> float:
        if step < warmup_steps:
            return float((step + 1) / warmup_steps)
        progress = min(1.0, (step - warmup_steps) / decay_steps)
        return float(shape(progress, **options))

    return factor


def has_curve(info: ScheduleInfo) -> bool:
    """Return whether a schedule is a function of the step, known before a training."""
    return bool(info.shape) and not info.follows_monitor


def build_scheduler(schedule: Part, optimizer: Optimizer, total_steps: int, mode: Mode = "min") -> LRScheduler:
    """Build the scheduler, to be stepped once after each optimizer step.

    Args:
        schedule: Name and options, from a recipe.
        optimizer: Its groups' rates are the peak rates.
        total_steps: Optimizer steps of the full length, >= 1.
        mode: Whether to minimize or maximize the monitored metric; for a schedule that follows it.

    Returns:
        A `LambdaLR`, whose state contains only the step count: a run resumed with another length follows the new
        length's schedule. For a schedule that follows the monitored metric, torch's own scheduler, to be stepped with
        the metric after each validation; with a warmup, also without a metric after each optimizer step.
    """
    info = find_schedule(schedule.name)
    if info.follows_monitor:
        return _build_on_monitor(schedule, info, optimizer, total_steps, mode)
    return LambdaLR(optimizer, multiplier(schedule, total_steps))


def scheduler_config(
    schedule: Part, optimizer: Optimizer, total_steps: int, monitor: str, mode: Mode = "min"
) -> dict[str, Any]:
    """Return the value of `lr_scheduler` in the result of `configure_optimizers`.

    A schedule that follows the metric after a warmup has a second entry there, `warmup_config`.

    Args:
        schedule: Name and options, from a recipe.
        optimizer: Its groups' rates are the peak rates.
        total_steps: Optimizer steps of the full length, >= 1.
        monitor: Metric for a schedule that follows it; Lightning reads it at the end of each epoch, and
            `RecipeAttacher` after each validation.
        mode: Whether to minimize or maximize that metric.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        >>> config = scheduler_config(Part("plateau"), optimizer, 100, monitor="val_loss")
        >>> config["interval"], config["monitor"], config["reduce_on_plateau"]
        ('epoch', 'val_loss', True)
    """
    scheduler = build_scheduler(schedule, optimizer, total_steps, mode)
    if find_schedule(schedule.name).follows_monitor:
        return {"scheduler": scheduler, "interval": "epoch", "monitor": monitor, "reduce_on_plateau": True}
    return {"scheduler": scheduler, "interval": "step", "frequency": 1}


def warmup_config(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a second config for the same scheduler, with which Lightning steps its warmup; None if it needs none.

    Args:
        config: The result of `scheduler_config`.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        >>> plateau = Part("plateau", {"warmup_fraction": 0.1})
        >>> config = warmup_config(scheduler_config(plateau, optimizer, 100, monitor="val_loss"))
        >>> config["interval"], config["reduce_on_plateau"], round(optimizer.param_groups[0]["lr"], 6)
        ('step', False, 0.01)
    """
    scheduler = config["scheduler"]
    if "monitor" not in config or not getattr(scheduler, "warmup_steps", 0):
        return None
    return {"scheduler": scheduler, "interval": "step", "frequency": 1, "reduce_on_plateau": False}


def _build_on_monitor(
    schedule: Part, info: ScheduleInfo, optimizer: Optimizer, total_steps: int, mode: Mode
) -> LRScheduler:
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])  # other schedulers set it too: it records the peak
    build: Callable[..., LRScheduler] = load_object(info.shape)
    warmup_share, options = split_warmup(schedule, info)
    warmup = {} if info.warmup is None else {"warmup_steps": round(warmup_share * total_steps)}
    return build(optimizer, mode, **warmup, **options)
