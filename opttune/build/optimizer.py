"""Build the torch optimizer of a recipe."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer

from opttune.build.groups import GroupPlan, plan_groups
from opttune.build.load import load_class, load_object
from opttune.build.module_facts import has_sparse_gradients
from opttune.catalog.check import check_recipe, with_defaults
from opttune.catalog.info import OptimizerInfo
from opttune.catalog.lookup import find_optimizer, optimizer_names
from opttune.errors import ModelError, UnsuitableOptimizerError
from opttune.recipe import Recipe


def build_optimizer(
    recipe: Recipe,
    module: nn.Module,
    total_steps: int,
    own_groups: Sequence[Mapping[str, Any]] | None = None,
) -> Optimizer:
    """Build the optimizer of a recipe over a module's trainable parameters.

    Every option is passed to the class: the recipe's value, else the catalog's default. Each group carries its
    name, its learning rate and its weight decay.

    Args:
        recipe: The settings.
        module: The module; its layers identify norms, embeddings and the output.
        total_steps: Optimizer steps of the full length, >= 1.
        own_groups: The parameter groups of the module's own optimizer, whose ratios are kept (see `plan_groups`).

    Returns:
        One torch optimizer, whose groups hold the peak learning rate.

    Raises:
        RecipeError: The optimizer does not take an option of the recipe.
        ModelError: No parameter is trainable, a rule matches none, or the optimizer works with one learning rate
            and the groups have several.
        UnsuitableOptimizerError: It does not train complex parameters, or does not take sparse gradients.
        MissingExtraError: The optimizer's extra is not installed.

    Example:
        >>> from opttune.recipe import Part
        >>> optimizer = build_optimizer(Recipe(Part("adamw", {"lr": 3e-4})), nn.Linear(4, 2), total_steps=100)
        >>> type(optimizer).__name__, [group["weight_decay"] for group in optimizer.param_groups]
        ('AdamW', [0.01, 0.0])
    """
    check_recipe(recipe)
    info = find_optimizer(recipe.optimizer.name)
    plans = plan_groups(module, recipe.groups, info.matrices_only is not None, own_groups)
    if info.one_lr and any(plan.scale.lr != 1.0 for plan in plans):
        raise ModelError(
            f"optimizer {info.name!r} works with one learning rate for all parameters: leave out groups.layer_decay, "
            "groups.lora_plus_ratio and rules with lr_mult, and let the module's own groups have one rate."
        )
    held = [parameter for plan in plans for parameter in plan.parameters]
    if any(parameter.is_complex() for parameter in held):
        refuse_unless(info.takes_complex, info, "has complex parameters", "takes_complex")
    if has_sparse_gradients(module):
        refuse_unless(info.takes_sparse, info, "has an embedding with sparse gradients", "takes_sparse")
    arguments = optimizer_arguments(recipe, info, module, total_steps)
    groups = [_torch_group(plan, arguments, info) for plan in plans]
    build = load_class(info)
    if info.takes_model:
        with _thawed(plans):
            optimizer: Optimizer = build(module, **arguments)
        _settle_groups(optimizer, groups)
        return optimizer
    built: Optimizer = build(groups, **arguments)
    return built


def refuse_unless(is_fit: bool, info: OptimizerInfo, problem: str, ability: str) -> None:
    """Refuse an optimizer that cannot train a module.

    Args:
        is_fit: Whether the optimizer can train it.
        info: Its row.
        problem: The property of the model, in words.
        ability: The field of the rows that can train it.

    Raises:
        UnsuitableOptimizerError: The optimizer cannot train it; the message names optimizers that can.
    """
    if not is_fit:
        able = ", ".join(name for name in optimizer_names() if getattr(find_optimizer(name), ability))
        raise UnsuitableOptimizerError(
            f"the model {problem}, which optimizer {info.name!r} does not train. These do: {able}."
        )


def groups_for(
    added: Sequence[Parameter], recipe: Recipe, module: nn.Module, total_steps: int, optimizer: Optimizer
) -> list[dict[str, Any]]:
    """Return the groups for parameters that join a recipe's optimizer, as if they had been there from the start.

    Args:
        added: The parameters.
        recipe: The settings.
        module: The module of these parameters.
        total_steps: Optimizer steps of the full length.
        optimizer: The optimizer, with its other parameters.

    Raises:
        ModelError: The module has no such parameter.
    """
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    whole = build_optimizer(recipe, module, total_steps, [{"params": [*held, *added]}])
    wanted = {id(parameter) for parameter in added}
    parts = [
        {**group, "params": kept}
        for group in whole.param_groups
        if (kept := [parameter for parameter in group["params"] if id(parameter) in wanted])
    ]
    if sum(len(part["params"]) for part in parts) != len(wanted):
        raise ModelError("a hook adds a parameter group whose parameters are not all the module's own.")
    return parts


def first_full_rate(recipe: Recipe, optimizer: Optimizer) -> float:
    """Return the full peak rate, of which the peak rate of an optimizer's first group is a share."""
    info = find_optimizer(recipe.optimizer.name)
    arguments = optimizer_arguments(recipe, info, None, 1)
    is_rest = info.matrices_only is not None and not optimizer.param_groups[0][info.matrices_only.flag]
    return float(arguments[info.matrices_only.rest_lr if info.matrices_only and is_rest else "lr"])


def optimizer_arguments(
    recipe: Recipe, info: OptimizerInfo, module: nn.Module | None, total_steps: Any
) -> dict[str, Any]:
    """Return all arguments of an optimizer's class except the parameters.

    Args:
        recipe: The settings.
        info: The optimizer's row.
        module: The module, for options that are read from it; None leaves those null.
        total_steps: Optimizer steps of the full length.
    """
    options: dict[str, Any] = with_defaults(recipe.optimizer, info)
    for name, function in info.from_module.items():
        if options[name] is None and module is not None:
            options[name] = load_object(function)(module)
    ratios = {argument: options["lr"] * options.pop(name) for argument, name in info.lr_ratios.items()}
    tied = {argument: options[name] for argument, name in info.tied.items()}
    horizon = {info.total_steps_option: total_steps} if info.total_steps_option else {}
    return {**options, **ratios, **tied, **horizon, **info.fixed}


def _torch_group(plan: GroupPlan, arguments: Mapping[str, Any], info: OptimizerInfo) -> dict[str, Any]:
    group: dict[str, Any] = {"params": plan.parameters, "name": plan.scale.name}
    lr = arguments["lr"]
    if info.matrices_only is not None:
        group[info.matrices_only.flag] = plan.scale.is_matrix
        lr = lr if plan.scale.is_matrix else arguments[info.matrices_only.rest_lr]
    group["lr"] = lr * plan.scale.lr
    if "weight_decay" in arguments:
        decays = ["weight_decay", *(name for name, option in info.tied.items() if option == "weight_decay")]
        group |= dict.fromkeys(decays, arguments["weight_decay"] * plan.scale.weight_decay)
    return group


@contextmanager
def _thawed(plans: Sequence[GroupPlan]) -> Iterator[None]:
    """Let a class that makes its groups from a module also see the frozen parameters in the plan."""
    frozen = [parameter for plan in plans for parameter in plan.parameters if not parameter.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


def _settle_groups(optimizer: Optimizer, groups: Sequence[Mapping[str, Any]]) -> None:
    """Set the planned learning rates and decays in the groups that an optimizer made from the module."""
    planned = {id(parameter): group for group in groups for parameter in group["params"]}
    kept = [group for group in optimizer.param_groups if all(id(p) in planned for p in group["params"])]
    for group in kept:
        plan = planned[id(group["params"][0])]
        group |= {key: value for key, value in plan.items() if key not in ("params", "name")}
    optimizer.param_groups[:] = kept


@dataclass(frozen=True, slots=True)
class GroupRow:
    """One row of the table of groups.

    Attributes:
        group: Name of the group.
        tensors: Parameter tensors in it.
        parameters: Total number of elements in those tensors.
        lr: Peak learning rate; 0 for parameters in no group.
        weight_decay: Weight decay.
    """

    group: str
    tensors: int
    parameters: int
    lr: float
    weight_decay: float


def describe_optimizers(named: Sequence[tuple[str, Optimizer]], module: nn.Module) -> list[GroupRow]:
    """Return the table of the groups of a module's optimizers, with a last row for parameters in no group.

    Args:
        named: Each optimizer with its name; an empty name for the only one.
        module: The module.
    """
    rows = [row for name, optimizer in named for row in _group_rows(name, optimizer)]
    held = {id(one) for _, optimizer in named for group in optimizer.param_groups for one in group["params"]}
    left = [parameter for parameter in module.parameters() if id(parameter) not in held]
    if left:
        rows.append(GroupRow("not trained", len(left), sum(parameter.numel() for parameter in left), 0.0, 0.0))
    return rows


def describe_groups(optimizer: Optimizer, module: nn.Module) -> list[GroupRow]:
    """Return the table of an optimizer's groups, with a last row for parameters in no group.

    Example:
        >>> from opttune.recipe import Part
        >>> layer = nn.Linear(4, 2)
        >>> optimizer = build_optimizer(Recipe(Part("adamw", {"lr": 3e-4})), layer, total_steps=100)
        >>> for row in describe_groups(optimizer, layer):
        ...     print(row.group, row.tensors, row.parameters, row.lr, row.weight_decay)
        decay 1 8 0.0003 0.01
        no decay 1 2 0.0003 0.0
    """
    return describe_optimizers([("", optimizer)], module)


def _group_rows(name: str, optimizer: Optimizer) -> list[GroupRow]:
    return [
        GroupRow(
            group=": ".join(filter(None, (name, str(group.get("name", f"group {number}"))))),
            tensors=len(group["params"]),
            parameters=sum(parameter.numel() for parameter in group["params"]),
            lr=float(group.get("initial_lr") or group.get("lr") or 0.0),
            weight_decay=float(group.get("weight_decay") or 0.0),
        )
        for number, group in enumerate(optimizer.param_groups, 1)
    ]


def groups_table(rows: Sequence[GroupRow]) -> str:
    """Return the table of groups as Markdown.

    Example:
        >>> print(groups_table([GroupRow("decay", 1, 8, 3e-4, 0.01)]))
        | group | tensors | parameters | lr | weight decay |
        |---|---|---|---|---|
        | decay | 1 | 8 | 0.0003 | 0.01 |
    """
    lines = [f"| {r.group} | {r.tensors} | {r.parameters} | {r.lr:g} | {r.weight_decay:g} |" for r in rows]
    return "\n".join(["| group | tensors | parameters | lr | weight decay |", "|---|---|---|---|---|", *lines])


def state_bytes(optimizer: Optimizer) -> int:
    """Return the bytes of all tensors in an optimizer's state, including those in lists and mappings.

    Example:
        >>> import torch
        >>> weight = nn.Parameter(torch.zeros(10))
        >>> optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
        >>> weight.sum().backward()
        >>> optimizer.step()
        >>> state_bytes(optimizer)
        40
    """
    return sum(_tensor_bytes(value) for value in optimizer.state.values())


def _tensor_bytes(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, Mapping):
        return sum(map(_tensor_bytes, value.values()))
    return sum(map(_tensor_bytes, value)) if isinstance(value, list | tuple) else 0
