"""Sample a recipe from a space and an Optuna trial."""

from collections.abc import Callable
from typing import Any

import optuna

from opttune.catalog.info import Info, OptionInfo
from opttune.catalog.lookup import find_optimizer, find_schedule
from opttune.recipe import Groups, Part, Recipe, Value, unnumbered
from opttune.space.model import GROUPS, LR_FACTOR, Branch, Choice, Field, Fixed, Range, Scalar, Space
from opttune.space.parse import LR_TIMES_WEIGHT_DECAY


def sample_recipe(space: Space, trial: optuna.trial.BaseTrial) -> Recipe:
    """Ask a trial for every field of a space and return the recipe.

    The name of a parameter includes its branch (`adamw.lr`). Only the fields of the chosen optimizer and schedule are
    asked. `Range.to_optuna` encodes a range.

    Args:
        space: The space.
        trial: A trial of any study, with any sampler, or an `optuna.trial.FixedTrial`.

    Example:
        >>> from opttune.space.parse import load_space
        >>> trial = optuna.trial.FixedTrial(default_parameters(load_space("adamw"), 0))
        >>> sample_recipe(load_space("adamw"), trial).optimizer.name
        'adamw'
    """
    optimizer = _choose_branch(trial, "optimizer", space.optimizers)
    schedule = _choose_branch(trial, "schedule", space.schedules_of(optimizer))
    training: dict[str, Any] = {n: _ask(trial, n, field) for n, field in training_fields(space, optimizer)}
    return Recipe(
        optimizer=_ask_optimizer(trial, optimizer),
        schedule=Part.join(_parts(schedule, _ask_fields(trial, schedule), find_schedule)),
        groups=_ask_groups(trial, space, optimizer),
        **training,
    )


def default_parameters(space: Space, index: int) -> dict[str, Scalar]:
    """Return the Optuna parameters of an optimizer's default recipe: every field at its centre.

    Args:
        space: The space.
        index: The index of the optimizer, in the order of the space.

    Returns:
        The values that `sample_recipe` asks for, by parameter name: of that optimizer, of the first schedule and of
        the fields outside both.
    """
    optimizer = space.optimizers[index]
    schedules = space.schedules_of(optimizer)
    schedule = schedules[0]
    chosen: dict[str, Scalar] = {}
    if len(space.optimizers) > 1:
        chosen["optimizer"] = optimizer.name
    if len(schedules) > 1:
        chosen["schedule"] = schedule.name
    for name, field in open_fields(space, optimizer, schedule):
        chosen[field.optuna_name(name)] = field.to_optuna(field.centre)
    return chosen


def default_recipe(space: Space, optimizer: int = 0) -> Recipe:
    """Return the default recipe of one of the space's optimizers, the first if none is given."""
    return sample_recipe(space, optuna.trial.FixedTrial(default_parameters(space, optimizer)))


def _ask_groups(trial: optuna.trial.BaseTrial, space: Space, optimizer: Branch) -> Groups:
    if optimizer.is_own:
        return Groups()
    asked = {name: _ask(trial, f"{GROUPS}.{name}", field) for name, field in group_fields(space, optimizer)}
    return space.groups.with_fields(asked)


def open_fields(space: Space, optimizer: Branch, schedule: Branch) -> list[tuple[str, Range | Choice]]:
    """Return the fields that vary with an optimizer and a schedule, each with its full name."""
    fields = [(f"{branch.name}.{name}", field) for branch in (optimizer, schedule) for name, field in branch.fields]
    of_groups = [(f"{GROUPS}.{name}", field) for name, field in group_fields(space, optimizer)]
    return [
        (name, field)
        for name, field in (*fields, *training_fields(space, optimizer), *of_groups)
        if not isinstance(field, Fixed)
    ]


def training_fields(space: Space, optimizer: Branch) -> tuple[tuple[str, Field], ...]:
    """Return the fields outside optimizer and schedule; an optimizer that bounds its own steps has no clipping."""
    unasked = {"gradient_clip_norm"} if find_optimizer(optimizer.name).own_clipping else set()
    return tuple((name, field) for name, field in space.training_of(optimizer) if name not in unasked)


def group_fields(space: Space, optimizer: Branch) -> tuple[tuple[str, Range | Choice], ...]:
    """Return the fields of the parameter groups that affect an optimizer; the others do not vary."""
    return tuple((name, field) for name, field in space.group_fields if not why_unasked(name, optimizer))


def why_unasked(name: str, optimizer: Branch) -> str:
    """Return why a field of the parameter groups has no effect on an optimizer; empty if it has one.

    Example:
        >>> why_unasked("layer_decay", Branch("prodigy"))
        'it works with one learning rate for all parameters'
    """
    if optimizer.is_own:
        return "it keeps the groups of the module's own optimizer"
    info = find_optimizer(optimizer.name)
    if name.startswith(("no_decay_", "weight_decay_ratio_")):
        return "" if _may_decay(optimizer) else "it has no weight decay here"
    if name.startswith("as_matrix_"):
        return "" if info.matrices_only is not None else "it treats matrices like all other parameters"
    return "it works with one learning rate for all parameters" if info.one_lr else ""


def _may_decay(optimizer: Branch) -> bool:
    info = find_optimizer(optimizer.name)
    field = optimizer.get("weight_decay") or optimizer.get(LR_TIMES_WEIGHT_DECAY)
    if field is None:
        return any(option.name == "weight_decay" and option.default for option in info.options)
    return not isinstance(field, Fixed) or bool(field.value)


def _ask_optimizer(trial: optuna.trial.BaseTrial, branch: Branch) -> Part:
    fields = _ask_fields(trial, branch)
    is_joined = len(branch.names) > 1
    factor = float(fields.pop(LR_FACTOR) or 1) if is_joined and LR_FACTOR in fields else 1.0  # type: ignore[arg-type]
    return Part.join([_with_rate(part, factor) for part in _parts(branch, fields, find_optimizer)])


def _parts(branch: Branch, fields: dict[str, Value], find: Callable[[str], Info]) -> list[Part]:
    """Return the part for each optimizer."""
    if len(branch.names) == 1:
        return [Part(branch.name, _pack(fields, find(branch.name)))]
    return [Part(name, _pack(unnumbered(fields, number), find(name))) for number, name in enumerate(branch.names)]


def _with_rate(part: Part, factor: float) -> Part:
    """Return a part that says its rate, times a factor that all optimizers share."""
    options = find_optimizer(part.name).options
    option = next((one for one in options if one.name in ("lr", LR_FACTOR)), None)
    if option is None:
        return part
    rate = part.get(option.name, option.default)
    return part.replaced(**{option.name: rate if factor == 1 else float(f"{float(rate or 0) * factor:.4g}")})  # type: ignore[arg-type]


def _choose_branch(trial: optuna.trial.BaseTrial, kind: str, branches: tuple[Branch, ...]) -> Branch:
    if len(branches) == 1:
        return branches[0]
    name = trial.suggest_categorical(kind, [branch.name for branch in branches])
    return next(branch for branch in branches if branch.name == name)


def _ask_fields(trial: optuna.trial.BaseTrial, branch: Branch) -> dict[str, Value]:
    return {name: _ask(trial, f"{branch.name}.{name}", field) for name, field in branch.fields}


def _ask(trial: optuna.trial.BaseTrial, name: str, field: Field) -> Scalar:
    match field:
        case Fixed():
            return field.value
        case Choice():
            chosen: Scalar = trial.suggest_categorical(name, list(field.choices))
            return chosen
        case Range():
            return _ask_range(trial, name, field)


def _ask_range(trial: optuna.trial.BaseTrial, name: str, field: Range) -> Scalar:
    asked, (low, high), is_log = field.optuna_name(name), field.optuna_bounds, field.is_log_in_optuna
    if field.integer:
        return trial.suggest_int(asked, int(low), int(high), log=is_log)
    stored = trial.suggest_float(asked, low, high, log=is_log)
    # 1 - (1 - x) is not always x: 0.3 comes back as 0.30000000000000004
    return field.clip(field.from_optuna(stored)) if field.is_encoded else stored


def _pack(fields: dict[str, Value], info: Info) -> dict[str, Value]:
    """Put `beta1` and `beta2` back into `betas`; options that no field touches are left to the catalog."""
    packed: dict[str, Value] = {}
    if LR_TIMES_WEIGHT_DECAY in fields:
        product, lr = fields[LR_TIMES_WEIGHT_DECAY], fields.get("lr", info.options[0].default)
        fields = {**fields, "weight_decay": float(product or 0) / float(lr or 1)}  # type: ignore[arg-type]
    for option in info.options:
        given = [name for name in option.fields if name in fields]
        if given and isinstance(option.default, tuple):
            packed[option.name] = _packed(option, fields)
        elif given:
            packed[option.name] = fields[option.name]
    if info.is_own:
        # a recipe names its changes, and always the rate
        return {name: value for name, value in packed.items() if value != 1 or name == info.options[0].name}
    return packed


def _packed(option: OptionInfo, fields: dict[str, Value]) -> tuple[float, ...]:
    defaults = option.default if isinstance(option.default, tuple) else ()
    return tuple(float(fields.get(name, default)) for name, default in zip(option.fields, defaults, strict=True))  # type: ignore[arg-type]
