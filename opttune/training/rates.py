"""Find code that sets the learning rate under a recipe, because every recipe would train at that code's rate."""

import sys
import warnings
from math import isclose
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch.optim import Optimizer

from opttune.build.own_knobs import group_rates
from opttune.errors import ModelError

_OURS = (Path(torch.__file__).parent, Path(__file__).parents[1])
_LIGHTNING = ("lightning", "pytorch_lightning", "lightning_fabric")
_CALLBACKS = "callbacks"


class WatchedGroup(dict[str, Any]):
    """A parameter group that notes which code last set its learning rate.

    Attributes:
        place: The code outside torch, opttune and Lightning's loops that set it; empty if there is none.
        is_set_by_optimizer: Whether the optimizer itself sets its rates.
    """

    place = ""
    is_set_by_optimizer = False

    def __setitem__(self, key: str, value: Any) -> None:
        if key == "lr":
            self._note(sys._getframe(1))
        super().__setitem__(key, value)

    def update(self, *given: Any, **more: Any) -> None:
        """Update the group."""
        changes = dict(*given, **more)
        if "lr" in changes:
            self._note(sys._getframe(1))
        super().update(changes)

    def _note(self, frame: FrameType | None) -> None:
        while frame is not None:
            path = Path(frame.f_code.co_filename)
            owner = frame.f_locals.get("self")
            if isinstance(owner, Optimizer):
                self.is_set_by_optimizer = True
                return
            if not any(path.is_relative_to(folder) for folder in _OURS):
                break
            frame = frame.f_back
        if frame is not None and not _is_lightnings_loop(path):
            self.place = f"{path}:{frame.f_lineno}, in {frame.f_code.co_name}"


def _is_lightnings_loop(path: Path) -> bool:
    return (
        any(name in path.parts for name in _LIGHTNING)
        and "site-packages" in path.parts
        and (_CALLBACKS not in path.parts)
    )


class RateCheck:
    """Compares the rate of each step with the rate that the recipe has set.

    Args:
        optimizer: The recipe's optimizer.
        groups: The number of the recipe's groups; the user's code added later ones.
        is_strict: Whether to refuse a difference; else the first one causes a warning.
    """

    def __init__(self, optimizer: Any, groups: int, is_strict: bool) -> None:
        self._optimizer, self._count, self._is_strict = optimizer, groups, is_strict
        self._wanted: list[float] = []
        self._is_done = False
        self.begin()

    def begin(self) -> None:
        """Watch the groups, which loading a checkpoint replaces."""
        groups = self._optimizer.param_groups
        groups[:] = [group if isinstance(group, WatchedGroup) else WatchedGroup(group) for group in groups]
        self.expect()

    def expect(self) -> None:
        """Take the present rates for the recipe's."""
        self._wanted = self._rates()

    def compare(self, step: int) -> None:
        """Refuse or report rates that are not the recipe's.

        Args:
            step: The step of these rates, counted from 1.

        Raises:
            ModelError: Other code has set them, and the check is strict.
        """
        groups = self._optimizer.param_groups[: self._count]
        if self._is_done or any(getattr(group, "is_set_by_optimizer", False) for group in groups):
            return
        for group, wanted, used in zip(groups, self._wanted, self._rates(), strict=True):
            if not isclose(used, wanted, rel_tol=1e-6, abs_tol=1e-12):
                self._is_done = True
                self._tell(step, wanted, used, getattr(group, "place", ""))
                return

    def _rates(self) -> list[float]:
        return group_rates(self._optimizer)[: self._count]

    def _tell(self, step: int, wanted: float, used: float, place: str) -> None:
        message = (
            f"the learning rate of step {step} is {used:.3g}, and the recipe's is {wanted:.3g}: "
            f"{place or 'other code'} sets it, so recipes do not train at their own rates. Remove that code while "
            "opttune trains the module; recipes have their own schedule and warmup (warmup_fraction)."
        )
        if self._is_strict:
            raise ModelError(message)
        warnings.warn(f"opttune: {message}", stacklevel=2)
