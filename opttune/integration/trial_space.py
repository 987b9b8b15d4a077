"""The space of the trials in a user's own study, settled once for the module and the length of the first trial.

It is settled as in a search, and kept in the study, where `OpttuneSampler` finds it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from threading import Lock
from typing import Any
from zlib import crc32

import optuna

from opttune.build.load import require_classes
from opttune.build.module_facts import Observed, read_facts
from opttune.build.operations import Operations
from opttune.errors import InputError, shown
from opttune.space.auto import ModelFacts
from opttune.space.model import Fixed, SettledSpace, Space
from opttune.space.parse import load_space, settled_from_dict, settled_to_dict, shipped_name
from opttune.space.sample import default_recipe
from opttune.space.settle import settle, without_trainer_settings
from opttune.storages.records import RECIPE
from opttune.trainer.namespaces import is_module
from opttune.training.first_batch import try_operations
from opttune.training.length import count_steps, varies_accumulation
from opttune.training.own_optimizer import ask_own_optimizers, own_facts
from opttune.training.random_state import kept_random_state
from opttune.training.workload import Workload

DEFAULT_BUDGET = 20.0
"""Full trainings, as in `opttune.search`."""
_PREFIX = "opttune.trial_space."
"""Prefix of a study's user attributes; the name of the requested space follows."""
_MOST_APART = 2.0
"""A trial may be longer or shorter by this factor than the length for which the space was settled. The priors of
learning rates move at most with the root of the length, here by 1.4, which is less than the difference between two
recipes of a study."""
_SETTLING = Lock()


@dataclass(frozen=True, slots=True)
class SpaceRequest:
    """The request for the space that the trials of a study sample.

    Attributes:
        space: The space, as in its file.
        shipped: `auto`, or the name of a shipped space; empty for a user's own space.
        budget: Cost of the whole study in full trainings.
    """

    space: Space
    shipped: str
    budget: float = DEFAULT_BUDGET

    @classmethod
    def of(cls, space: str | Path | Space, budget: float = DEFAULT_BUDGET) -> "SpaceRequest":
        """Read the arguments of `TrialCallback` and `OpttuneSampler`.

        Raises:
            OpttuneError: There is no such space, or the budget is not a number above 0.
        """
        if not isinstance(budget, int | float) or not isfinite(budget) or budget <= 0:
            raise InputError(f"budget must be a number of full trainings above 0, got {shown(budget)}.")
        loaded = space if isinstance(space, Space) else load_space(space)
        return cls(loaded, shipped_name(space), budget)

    @property
    def key(self) -> str:
        """The user attribute of a study with the settled space."""
        if self.shipped:
            return _PREFIX + self.shipped
        content = json.dumps(self.space.to_dict(), sort_keys=True)
        return f"{_PREFIX}{self.space.name}-{crc32(content.encode()):08x}"

    def settle(self, facts: ModelFacts, total_steps: int, trainer: Mapping[str, Any] | None = None) -> SettledSpace:
        """Return the space to sample, settled as in a search.

        Args:
            facts: The known facts about the module.
            total_steps: Optimizer steps of one training.
            trainer: Settings of the Trainer that stay as they are.

        Raises:
            OpttuneError: No optimizer of the space can train the module, or one of them is not installed.
        """
        settings = trainer or {}
        requested = without_trainer_settings(self.space, settings)
        settled = settle(
            requested, self.shipped, trainer=settings, facts=facts, total_steps=total_steps, budget=self.budget
        )
        require_classes(branch.name for branch in settled.space.optimizers)
        return settled


@dataclass(frozen=True, slots=True)
class TrialSpace:
    """The space that a study's trials sample.

    Attributes:
        settled: The space.
        total_steps: The length in optimizer steps that it was settled for.
    """

    settled: SettledSpace
    total_steps: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; `from_dict` reads them back."""
        return {**settled_to_dict(self.settled), "total_steps": self.total_steps}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrialSpace":
        """Make a `TrialSpace` from the result of `to_dict`."""
        return cls(settled_from_dict(values), values["total_steps"])


def settle_early(request: SpaceRequest, max_steps: int | None, model: Any, where: str) -> TrialSpace | None:
    """Settle a space before there is a Trainer, if the length is given.

    Args:
        request: The requested space.
        max_steps: Optimizer steps of one training; None to read them from the Trainer.
        model: A LightningModule, its class or a factory without arguments; None leaves the module unknown.
        where: The name of the caller, for errors.

    Raises:
        OpttuneError: `max_steps` is not a number of steps, or one of the two arguments is missing.
    """
    if max_steps is None:
        if model is not None:
            raise InputError(f"{where}: model= has no effect without max_steps=, the optimizer steps of one training.")
        return None
    if not isinstance(max_steps, int) or isinstance(max_steps, bool) or max_steps < 1:
        raise InputError(f"{where}: max_steps must be a whole number of at least 1, got {shown(max_steps)}.")
    if model is None and request.shipped == "auto":
        raise InputError(
            f"{where}: the space auto is chosen for the module, so max_steps= needs model= as well (a LightningModule, "
            "its class, or a function that makes it); or name another space, such as 'wide'."
        )
    facts = ModelFacts(parameters=0) if model is None else _facts_of(model)
    return TrialSpace(request.settle(facts, max_steps), max_steps)


def settle_in_fit(request: SpaceRequest, trainer: Any, module: Any, is_first: bool = True) -> TrialSpace:
    """Settle a space for a fit that has started, once its Trainer asks for the optimizer.

    Args:
        request: The requested space.
        trainer: The Trainer; its own clipping and accumulation stay as they are.
        module: The module, with all of its layers.
        is_first: Whether the study may have no space yet.

    Raises:
        OpttuneError: The length is not known, the space varies a setting that needs a new Trainer, or it does not suit
            the module.
    """
    varies = dict(request.space.training).get("precision", Fixed(None))
    if not isinstance(varies, Fixed):
        raise InputError(
            f"the space {request.space.name} varies precision, which must be known when the Trainer is made: give "
            "TrialCallback max_steps=, so that callback.recipe.precision is known before."
        )
    settings = _settings_of(trainer)
    total_steps = _count_steps(trainer, without_trainer_settings(request.space, settings))
    # an unnecessary batch costs time
    operations = try_operations(trainer, module) if is_first and request.shipped == "auto" else None
    return TrialSpace(request.settle(_read_all(module, operations), total_steps, settings), total_steps)


def has_space(trial: optuna.trial.BaseTrial, request: SpaceRequest) -> bool:
    """Return whether the trial's study has settled its space."""
    return isinstance(trial, optuna.Trial) and request.key in trial.study.user_attrs


def share_in_study(trial: optuna.trial.BaseTrial, request: SpaceRequest, space: TrialSpace) -> TrialSpace:
    """Return the space that all trials of a study sample; the first trial sets it to the given one.

    Args:
        trial: The trial; a trial without a study has the space for itself.
        request: The requested space.
        space: The space for this trial's module and length.

    Raises:
        InputError: The study's space was settled for trainings of a very different length.
    """
    if not isinstance(trial, optuna.Trial):
        return space
    study = trial.study
    with _SETTLING:
        if request.key not in study.user_attrs:
            first = TrialSpace(SettledSpace(request.space), space.total_steps) if _is_of_old(trial) else space
            study.set_user_attr(request.key, first.to_dict())
    # another process may have been faster
    shared = TrialSpace.from_dict(study.user_attrs[request.key])
    if request.shipped and are_far_apart(shared.total_steps, space.total_steps):
        raise InputError(
            f"the study {study.study_name!r} samples the space {request.shipped} for trainings of {shared.total_steps} "
            f"steps, and this one has {space.total_steps}, whose learning rates start elsewhere: use one study for "
            f"each length, or give TrialCallback max_steps={shared.total_steps} to sample as for that length."
        )
    return shared


def shared_space(attributes: Mapping[str, Any], request: SpaceRequest) -> Mapping[str, Any] | None:
    """Return the space of a study's trials, as `TrialSpace.to_dict` wrote it; None before the first trial.

    If all trials of a study sample one space, any request returns it.

    Args:
        attributes: The study's user attributes.
        request: The requested space.
    """
    found = attributes.get(request.key)
    if found is None:
        known = [value for name, value in attributes.items() if name.startswith(_PREFIX)]
        found = known[0] if len(known) == 1 else None
    return found


def are_far_apart(steps: int, others: int) -> bool:
    """Return whether learning rates for trainings of one length are wrong for the other.

    Example:
        >>> are_far_apart(60, 100), are_far_apart(60, 6_000)
        (False, True)
    """
    return max(steps, others) > _MOST_APART * min(steps, others)


def _facts_of(model: Any) -> ModelFacts:
    with kept_random_state():
        return _read_all(model if is_module(model) else Workload(model).make_model())


def _read_all(module: Any, operations: Operations | None = None) -> ModelFacts:
    """Return the known facts about a module and its own optimizers."""
    with kept_random_state():
        own = ask_own_optimizers(module, module.configure_optimizers)
    facts = read_facts(module, own.groups, observed=Observed(operations))
    # weights may be loaded later
    return replace(facts, has_trained_norms=facts.has_trained_norms or None, own=own_facts(own))


def _settings_of(trainer: Any) -> dict[str, Any]:
    """Return the Trainer's arguments that take precedence over a recipe; precision always does."""
    settings = {
        "gradient_clip_val": trainer.gradient_clip_val,
        "gradient_clip_algorithm": getattr(trainer, "gradient_clip_algorithm", None),
    }
    if trainer.accumulate_grad_batches != 1 or varies_accumulation(trainer):
        settings["accumulate_grad_batches"] = trainer.accumulate_grad_batches
    return settings


def _count_steps(trainer: Any, space: Space) -> int:
    """Return the steps of a training with the space's first recipe, which may accumulate batches."""
    before = trainer.accumulate_grad_batches
    trainer.accumulate_grad_batches = default_recipe(space).accumulate_grad_batches
    try:
        return count_steps(trainer)
    finally:
        trainer.accumulate_grad_batches = before


def _is_of_old(trial: optuna.Trial) -> bool:
    """Return whether the study has trials of a version that settled no spaces; it keeps sampling as it did."""
    if any(name.startswith(_PREFIX) for name in trial.study.user_attrs):
        return False
    others = trial.study.get_trials(deepcopy=False)
    return any(other.number != trial.number and RECIPE in other.user_attrs for other in others)
