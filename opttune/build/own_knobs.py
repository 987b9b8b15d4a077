"""Move the rates of a module's own optimizer by factors.

The factors act only during a step: the options of the groups are multiplied before it and restored after it. Code that
sets a rate (a scheduler, a warmup in `optimizer_step`, a callback) therefore works as before, and code that reads a
group or a checkpoint sees only the module's own rate.
"""

from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

from torch.optim import Optimizer

from opttune.catalog.info import OptimizerInfo, searched_fields
from opttune.errors import ModelError
from opttune.recipe import Part

_MEMORY: dict[str, tuple[str, int]] = {
    "beta1_horizon_factor": ("betas", 0),
    "beta2_horizon_factor": ("betas", 1),
    "momentum_horizon_factor": ("momentum", 0),
}
"""Knob -> the option of a group that it moves, and its place in the option."""
_TAKEN = ("lr", "betas", "momentum", "weight_decay")
_ATTRIBUTE = "opttune_knobs"


class OwnKnobs:
    """Factors on the options of a module's own optimizer.

    An average with the decay rate `b` remembers `h = 1 / (1 - b)` steps; a horizon factor `f` gives
    `b' = max(0, 1 - 1 / (f h))`.

    Args:
        optimizer: The module's own optimizer.
        part: The recipe's part for it.
        is_shared: Whether the part is also for other optimizers, which may have options that this one lacks.

    Raises:
        ModelError: The optimizer lacks an option that the recipe moves.

    Example:
        >>> import torch
        >>> weight = torch.nn.Parameter(torch.ones(1))
        >>> optimizer = torch.optim.SGD([weight], lr=0.1)
        >>> knobs = OwnKnobs(optimizer, Part("own", {"lr_factor": 2.0}))
        >>> weight.sum().backward()
        >>> optimizer.step()
        >>> round(float(weight.detach()), 3), optimizer.param_groups[0]["lr"], largest_rate(optimizer)
        (0.8, 0.1, 0.2)
        >>> knobs.remove()
    """

    def __init__(self, optimizer: Optimizer, part: Part, is_shared: bool = False) -> None:
        self._optimizer = optimizer
        self._factors = {name: float(value) for name, value in part.items() if value != 1}  # type: ignore[arg-type]
        self._own: list[dict[str, Any]] = []
        self._moved: list[dict[str, Any]] = []
        self._handles: list[Any] = []
        for name in self._factors:
            if not is_shared and not any(_has(group, name) for group in optimizer.param_groups):
                raise ModelError(
                    f"the recipe moves {name} of the module's own optimizer, and {type(optimizer).__name__} has no "
                    f"{_option_of(name)}. Leave {name} out."
                )
        if self._factors:
            setattr(optimizer, _ATTRIBUTE, self)
            self._handles = [
                optimizer.register_step_pre_hook(lambda _, args, kwargs: self._begin_step(args, kwargs)),
                optimizer.register_step_post_hook(lambda *_: self._put_back()),
            ]

    @property
    def lr_factor(self) -> float:
        """The factor on the learning rates."""
        return self._factors.get("lr_factor", 1.0)

    @property
    def is_in_step(self) -> bool:
        """Whether a step is running; the groups then have the moved rates."""
        return bool(self._own)

    def remove(self) -> None:
        """Remove the factors from the optimizer."""
        while self._handles:
            self._handles.pop().remove()
        if getattr(self._optimizer, _ATTRIBUTE, None) is self:
            delattr(self._optimizer, _ATTRIBUTE)

    def _begin_step(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Move the options for a step, but not for the closure that computes its loss, which is the module's code."""
        # a failed step has left them moved
        self._put_back(was_made=False)
        # torch passes the optimizer as the first argument
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if closure is None:
            self._move()
            return args, kwargs

        def with_own_options() -> Any:
            self._put_back(was_made=False)
            loss = closure()
            self._move()
            return loss

        if len(args) > 1:
            return (args[0], with_own_options, *args[2:]), kwargs
        return args, {**kwargs, "closure": with_own_options}

    def _move(self) -> None:
        self._own = [dict(group) for group in self._optimizer.param_groups]
        for group in self._optimizer.param_groups:
            for name, factor in self._factors.items():
                if _has(group, name):
                    group[_option_of(name)] = _moved(group, name, factor)
        self._moved = [dict(group) for group in self._optimizer.param_groups]

    def _put_back(self, was_made: bool = True) -> None:
        """Restore the module's own options; an option that the step itself has changed keeps that change."""
        for group, own, moved in zip(self._optimizer.param_groups, self._own, self._moved, strict=False):
            for name, factor in self._factors.items():
                option = _option_of(name)
                if option in own and group.get(option) is moved[option]:
                    group[option] = own[option]
                elif was_made and name not in _MEMORY and factor and option in own:
                    group[option] /= factor
        self._own, self._moved = [], []


_CYCLED = "max_momentum"
"""OneCycleLR and CyclicLR write this key into the groups whose momentum they cycle."""


def largest_rate(optimizer: Any) -> float:
    """Return the largest learning rate of an optimizer's next step, knobs included.

    Lightning computes the gradients within the step, in its closure, and calls `on_before_optimizer_step` there.
    """
    knobs = getattr(optimizer, _ATTRIBUTE, None)
    factor = 1.0 if knobs is None or knobs.is_in_step else knobs.lr_factor
    return factor * max(group_rates(optimizer))


def group_rates(optimizer: Any) -> list[float]:
    """Return the learning rate of each group, knobs excluded; 0 without one, since Adafactor may find its own.

    Example:
        >>> import torch
        >>> weights = [torch.nn.Parameter(torch.ones(1)) for _ in range(2)]
        >>> group_rates(torch.optim.SGD([{"params": weights[:1], "lr": 0.5}, {"params": weights[1:]}], lr=0.1))
        [0.5, 0.1]
    """
    return [float(group.get("lr") or 0.0) for group in optimizer.param_groups]


def knobs_of(optimizer: Optimizer) -> tuple[str, ...]:
    """Return the names of the knobs that an optimizer has.

    Example:
        >>> import torch
        >>> knobs_of(torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1, momentum=0.9))
        ('lr_factor', 'momentum_horizon_factor')
    """
    # an optimizer with two sets of weights reads its averages' rates outside its steps as well
    memory = () if callable(getattr(optimizer, "eval", None)) else tuple(_MEMORY)
    names = ("lr_factor", "weight_decay_factor", *memory)
    return tuple(name for name in names if any(_has(group, name) for group in optimizer.param_groups))


def peak_rates(groups: Sequence[Mapping[str, Any]], schedulers: Sequence[Any] = ()) -> list[Any]:
    """Return the peak learning rate of each group of a module's own optimizer.

    A scheduler may start far below its peak: OneCycleLR writes the peak into the groups, CyclicLR keeps it.

    Args:
        groups: The optimizer's parameter groups.
        schedulers: Its torch schedulers.

    Example:
        >>> peak_rates([{"lr": 4e-5, "initial_lr": 4e-5, "max_lr": 1e-3}, {"lr": 0.1}])
        [0.001, 0.1]
    """
    peaks = []
    for index, group in enumerate(groups):
        known = [group.get(name) for name in ("initial_lr", "max_lr")]
        known += [lrs[index] for one in schedulers if (lrs := getattr(one, "max_lrs", None)) and index < len(lrs)]
        peaks.append(max([float(peak) for peak in known if peak is not None], default=group.get("lr")))
    return peaks


def own_values(
    groups: Sequence[Mapping[str, Any]], info: OptimizerInfo, schedulers: Sequence[Any] = ()
) -> dict[str, float]:
    """Return the values of a row's fields in the groups of a module's own optimizer; for rates the largest.

    Args:
        groups: Its parameter groups.
        info: The catalog's row of its class.
        schedulers: Its torch schedulers.

    Example:
        >>> import torch
        >>> from opttune.catalog.lookup import find_optimizer
        >>> own = torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))], lr=3e-4, betas=(0.9, 0.95))
        >>> own_values(own.param_groups, find_optimizer("adamw"))
        {'lr': 0.0003, 'beta1': 0.9, 'beta2': 0.95, 'weight_decay': 0.01}
    """
    found: dict[str, float] = {}
    for option in info.options:
        name = option.name
        given = peak_rates(groups, schedulers) if name == "lr" else [group.get(name) for group in groups]
        if name == "lr":
            given = [max(rates)] if (rates := [float(one) for one in given if one is not None]) else []
        if name not in _TAKEN or not given or any(one != given[0] for one in given) or given[0] is None:
            continue
        values = given[0] if isinstance(given[0], tuple | list) else (given[0],)
        found |= {key: float(value) for key, value in zip(option.fields, values, strict=False)}
    if any(_CYCLED in group for group in groups):
        # a scheduler has set the first momentum of its cycle, and the module's own value is lost
        found = {key: value for key, value in found.items() if key not in ("momentum", "beta1")}
    return {key: value for key, value in found.items() if key in searched_fields(info)}


def _option_of(name: str) -> str:
    return _MEMORY[name][0] if name in _MEMORY else name.removesuffix("_factor")


def _has(group: Mapping[str, Any], name: str) -> bool:
    """Return whether a group has the option of a knob; a decay or a momentum of 0 does not count."""
    value = group.get(_option_of(name))
    if name not in _MEMORY:
        return value is not None and (name == "lr_factor" or bool(value))
    values, place = value if isinstance(value, tuple | list) else (value,), _MEMORY[name][1]
    return len(values) > place and values[place] is not None and 0 < float(values[place]) < 1


def _moved(group: Mapping[str, Any], name: str, factor: float) -> Any:
    value = group[_option_of(name)]
    if name not in _MEMORY:
        return value * factor
    if not isinstance(value, tuple | list):
        return _longer(value, factor)
    place = _MEMORY[name][1]
    return tuple(_longer(one, factor) if index == place else one for index, one in enumerate(value))


def _longer(decay: Any, factor: float) -> float:
    horizon = 1 / (1 - float(decay)) if decay < 1 else inf
    return max(0.0, 1 - 1 / (factor * horizon))
