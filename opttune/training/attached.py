"""One optimizer of a module under a recipe: kept or replaced, with the schedule of its learning rate."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

from opttune.build.groups import groups_of_one
from opttune.build.late_groups import LateGroups, follow_groups, is_late, late_groups
from opttune.build.optimizer import build_optimizer, first_full_rate, groups_for
from opttune.build.own_knobs import OwnKnobs, peak_rates
from opttune.build.schedule import Mode, multiplier, scheduler_config
from opttune.catalog.check import with_defaults
from opttune.catalog.lookup import find_optimizer, find_schedule
from opttune.recipe import Recipe
from opttune.training.own_optimizer import OwnOptimizer
from opttune.training.rates import RateCheck


class AttachedOptimizer:
    """The optimizer of some parameters under a recipe, and its schedule.

    Args:
        recipe: Its settings.
        module: The module.
        own: The module's own optimizer of the same parameters; None if the module has none.
        curve_steps: Optimizer steps of the schedule's curve.
        monitor: Metric for a schedule that follows one.
        mode: Whether that metric should fall or rise.
        is_strict: Whether to refuse code that sets the learning rate itself; else there is a warning.
        is_shared: Whether the recipe is also for other optimizers of the module.

    Attributes:
        optimizer: The optimizer in use.
        scheduler: The recipe's scheduler; None if the module's own stays.
        config: Lightning's config of the scheduler.
    """

    def __init__(
        self,
        recipe: Recipe,
        module: Any,
        own: OwnOptimizer | None,
        curve_steps: int,
        monitor: str,
        mode: Mode,
        is_strict: bool,
        is_shared: bool = False,
    ) -> None:
        self.recipe, self.info = recipe, find_optimizer(recipe.optimizer.name)
        self._schedule = find_schedule(recipe.schedule.name)
        self._curve_steps = curve_steps
        self._late: LateGroups | None = None
        self._rates: RateCheck | None = None
        self.knobs: OwnKnobs | None = None
        self.scheduler: Any = None
        self.config: dict[str, Any] = {}
        if self.info.is_own and own is not None:
            self.optimizer = own.optimizer
            self.knobs = OwnKnobs(own.optimizer, recipe.optimizer, is_shared)
        else:
            groups = None if own is None else own.groups
            fitting = replace(recipe, groups=groups_of_one(module, groups, recipe.groups))
            self.optimizer = build_optimizer(fitting, module, curve_steps, groups)
        if not self._schedule.is_own:
            if self.info.is_own and own is not None:
                _begin_at_peaks(own)
            self._follow_schedule(module, monitor, mode, is_strict)

    def _follow_schedule(self, module: Any, monitor: str, mode: Mode, is_strict: bool) -> None:
        """Give the optimizer the recipe's schedule, from the peak rates in its groups."""
        recipe, steps = self.recipe, self._curve_steps
        names = ("lr",) if self.info.is_own else tuple(with_defaults(recipe.optimizer, self.info))
        groups = self.optimizer.param_groups
        self._options = [{name: deepcopy(group[name]) for name in names if name in group} for group in groups]
        self.config = scheduler_config(recipe.schedule, self.optimizer, steps, monitor, mode)
        self.scheduler = self.config["scheduler"]
        if self.info.is_own:
            full = float(groups[0]["initial_lr"])
            self._late = LateGroups(
                self.optimizer, self.scheduler, lambda added: [{"params": added, "lr": full}], full, keeps_options=True
            )
        else:
            self._late = LateGroups(
                self.optimizer,
                self.scheduler,
                lambda added: groups_for(added, recipe, module, steps, self.optimizer),
                first_full_rate(recipe, self.optimizer),
            )
        self._rates = RateCheck(self.optimizer, len(groups), is_strict)

    @property
    def follows_monitor(self) -> bool:
        """Whether its schedule follows the monitored metric."""
        return self._schedule.follows_monitor

    def begin(self, is_resumed: bool) -> None:
        """Start the training; in a resumed one apply this fit's recipe and length from the current step on."""
        if self.scheduler is None:
            return
        if is_resumed and not self.follows_monitor:
            # the checkpoint has restored the options and the rate of the recipe and length that it was saved with
            factor = multiplier(self.recipe.schedule, self._curve_steps)(self.scheduler.last_epoch)
            groups = self.optimizer.param_groups
            moved = self._options[0]["lr"] / (groups[0]["initial_lr"] or 1.0)
            for group in late_groups(self.optimizer):
                group["initial_lr"] *= moved
                group["lr"] = group["initial_lr"] * factor
            for group, options in zip(groups, self._options, strict=False):
                group.update(options, initial_lr=options["lr"], lr=options["lr"] * factor)
        follow_groups(self.scheduler)
        if self._rates is not None:
            self._rates.begin()

    def step_schedule(self, *metric: Any) -> None:
        """Step the schedule, with the metric's value if it follows a metric."""
        self.scheduler.step(*metric)
        if self._rates is not None:
            self._rates.expect()

    def move_schedule(self, step: int) -> None:
        """Put the schedule at a step of the curve."""
        if not self.follows_monitor:
            self.scheduler.last_epoch = step - 1
        elif (warmup := getattr(self.scheduler, "warmup_steps", 0)) and self.scheduler.steps_done < warmup:
            # an optimizer that steps rarely may skip the last step of the warmup
            self.scheduler.steps_done = min(step, warmup) - 1
        else:
            return
        self.step_schedule()

    def settle_groups(self) -> None:
        """Put added groups on the recipe's curve."""
        if self._late is not None:
            self._late.settle()

    def check_rates(self, step: int) -> None:
        """Refuse or report learning rates that are not the recipe's.

        Args:
            step: The step of these rates, counted from 1.
        """
        if self._rates is not None:
            self._rates.compare(step)

    def release(self) -> None:
        """Detach from the optimizer."""
        if self.knobs is not None:
            self.knobs.remove()


def _begin_at_peaks(own: OwnOptimizer) -> None:
    """Set the rates of a module's own optimizer to the starting or peak rates of the module's schedulers."""
    for group, peak in zip(own.groups, peak_rates(own.groups, own.schedulers), strict=True):
        group["lr"] = peak
        # a rate that is a tensor is changed in place
        group["initial_lr"] = deepcopy(group["lr"])


def recorded(attached: Sequence[AttachedOptimizer]) -> list[str]:
    """Return the names of the optimizers, as a checkpoint notes them."""
    return [one.info.name for one in attached]


def state_problem(
    states: Sequence[Mapping[str, Any]], saved: Sequence[str], attached: Sequence[AttachedOptimizer], own: str
) -> str:
    """Return why the optimizer states of a checkpoint do not fit the recipe's optimizers; empty if they do.

    Args:
        states: The states in the checkpoint.
        saved: The names of the optimizers that saved them; empty if the module's own did.
        attached: The recipe's optimizers.
        own: The module's own optimizers in words.
    """
    names = recorded(attached)
    words = " + ".join(dict.fromkeys(names))
    if not states:
        return "it has only weights, and no state of an optimizer"
    if saved and list(saved) != names:
        return f"it was saved by a training with {' + '.join(dict.fromkeys(saved))}, and the recipe trains with {words}"
    if len(states) != len(attached):
        return f"it has {len(states)} optimizers, and the recipe trains with {len(attached)}"
    shapes = [_shapes(state["param_groups"]) for state in states]
    if shapes == [_shapes(one.optimizer.state_dict()["param_groups"]) for one in attached]:
        return ""
    if not saved:
        return f"the module's own optimizer ({own}) saved it, and the recipe trains with {words}"
    return f"its parameter groups were split differently, and the recipe's {words} has others"


def _shapes(groups: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """Return the shapes that distinguish the groups of optimizers, without late groups."""
    return [(group.get("name"), len(group["params"])) for group in groups if not is_late(group)]
