"""Parameter groups that are added while an optimizer trains, as by Lightning's `BackboneFinetuning`.

They are split and configured like the initial groups, and follow the schedule's curve at their own ratio: the rate that
they are given, divided by the recipe's rate at that step. The optimizer's state contains all of their settings, so they
survive a pause.
"""

from collections.abc import Callable, Iterable, Mapping
from math import isclose
from typing import Any

from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

_ADDED, _RATIO = "added", "ratio"

Split = Callable[[list[Parameter]], list[dict[str, Any]]]
"""Parameters -> their groups with their full rates."""


class LateGroups:
    """Handles the groups that are added to one optimizer.

    Args:
        optimizer: Its groups are those of a recipe, each with its peak rate as `initial_lr`.
        scheduler: The recipe's scheduler of it.
        split: Plans the groups of further parameters.
        full_rate: The rate at the schedule's peak, of which a new group's rate is a share.
        keeps_options: Whether a group keeps its given options beside the rate, as in a module's own optimizer.

    Example:
        >>> import torch
        >>> weights = [Parameter(torch.zeros(1)) for _ in range(2)]
        >>> optimizer = torch.optim.SGD(weights[:1], lr=0.1)
        >>> scheduler = LambdaLR(optimizer, lambda step: 1 / (1 + step))
        >>> late = LateGroups(optimizer, scheduler, lambda added: [{"params": added, "lr": 0.1}], full_rate=0.1)
        >>> optimizer.step()
        >>> scheduler.step()
        >>> optimizer.add_param_group({"params": weights[1:], "lr": 0.005})
        >>> scheduler.step()
        >>> [round(group["lr"], 4) for group in optimizer.param_groups]
        [0.0333, 0.0033]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        scheduler: LRScheduler,
        split: Split,
        full_rate: float,
        keeps_options: bool = False,
    ) -> None:
        self._optimizer, self._scheduler, self._keeps_options = optimizer, scheduler, keeps_options
        self._split, self._full_rate = split, full_rate
        optimizer.add_param_group = self._add  # type: ignore[method-assign, assignment]

    def settle(self) -> None:
        """Keep late groups on the curve; if their rate was set again, at the new ratio."""
        self._take_unseen()
        factor = self._factor
        late = late_groups(self._optimizer)
        anew = {
            group[_ADDED]: self._share(group["lr"])
            for group in late
            if not isclose(group["lr"], group["initial_lr"] * factor, rel_tol=1e-6, abs_tol=1e-12)
        }
        for group in late:
            if group[_ADDED] in anew and group[_RATIO]:
                group["initial_lr"] *= anew[group[_ADDED]] / group[_RATIO]
                group[_RATIO] = anew[group[_ADDED]]
                group["lr"] = group["initial_lr"] * factor
        follow_groups(self._scheduler)

    def _take_unseen(self) -> None:
        """Take groups that bypassed this object, for example through the wrapper of `LightningModule.optimizers`."""
        groups = self._optimizer.param_groups
        unseen = [group for group in groups if "initial_lr" not in group]
        groups[:] = [group for group in groups if "initial_lr" in group]
        for group in unseen:
            # torch has filled in the missing options
            is_default = group["lr"] == self._optimizer.defaults["lr"]
            self._add({name: value for name, value in group.items() if name != "lr" or not is_default})

    @property
    def _factor(self) -> float:
        first = self._optimizer.param_groups[0]
        return float(first["lr"] / first["initial_lr"]) if first["initial_lr"] else 0.0

    def _share(self, rate: Any) -> float:
        now = self._full_rate * self._factor
        return float(rate) / now if now else 1.0

    def _add(self, group: Mapping[str, Any]) -> None:
        ratio = self._share(group["lr"]) if "lr" in group else 1.0
        number = 1 + max(each.get(_ADDED, 0) for each in self._optimizer.param_groups)
        for part in self._split(_parameters(group["params"])):
            peak = part["lr"] * ratio
            decays = {name: 0.0 for name in part if name.startswith("weight_decay") and group.get("weight_decay") == 0}
            rates = {"lr": peak * self._factor, "initial_lr": peak, _RATIO: ratio, _ADDED: number}
            given = {name: value for name, value in group.items() if self._keeps_options and name != "params"}
            add_group(self._optimizer, {**given, **part, **decays, **rates})
        follow_groups(self._scheduler)


def add_group(optimizer: Optimizer, group: dict[str, Any]) -> None:
    """Add a group unchanged."""
    type(optimizer).add_param_group(optimizer, group)


def is_late(group: Mapping[str, Any]) -> bool:
    """Return whether a group was added late."""
    return _ADDED in group


def late_groups(optimizer: Optimizer) -> list[dict[str, Any]]:
    """Return the groups that were added late."""
    return [group for group in optimizer.param_groups if is_late(group)]


def follow_groups(scheduler: LRScheduler) -> None:
    """Make a recipe's scheduler follow all groups of its optimizer, each from its `initial_lr`."""
    peaks = [group["initial_lr"] for group in scheduler.optimizer.param_groups]
    if isinstance(scheduler, LambdaLR):
        scheduler.base_lrs = peaks
        scheduler.lr_lambdas = [scheduler.lr_lambdas[0]] * len(peaks)
    elif isinstance(scheduler, ReduceLROnPlateau):
        known = len(scheduler.min_lrs)
        share = scheduler.min_lrs[0] / peaks[0] if peaks[0] else 0.0
        scheduler.min_lrs = [*scheduler.min_lrs[: len(peaks)], *(peak * share for peak in peaks[known:])]


def _parameters(given: Parameter | Iterable[Any]) -> list[Any]:
    found = [given] if isinstance(given, Tensor) else list(given)
    # torch also takes pairs of a name and a parameter
    return [one[1] if isinstance(one, tuple) else one for one in found]
