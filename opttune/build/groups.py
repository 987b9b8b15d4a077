"""Split a module's parameters into the groups of a recipe."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn
from torch.nn import Parameter
from torch.nn.parameter import UninitializedParameter

from opttune.build.depth import parameter_depths
from opttune.build.traits import Trait, parameter_traits
from opttune.errors import ModelError
from opttune.recipe_groups import Groups, Rule, is_number
from opttune.space.group_facts import GroupFacts

_LORA_B = re.compile(r"(^|[._])lora_(embedding_)?B([._]|$)")


@dataclass(frozen=True, slots=True)
class Scale:
    """The factors of a group of parameters.

    Attributes:
        name: The group's name in tables.
        lr: Factor of the learning rate.
        weight_decay: Factor of the weight decay.
        is_matrix: Whether an optimizer for matrices (Muon) trains the group with its own method.
    """

    name: str
    lr: float
    weight_decay: float
    is_matrix: bool


@dataclass(slots=True)
class GroupPlan:
    """One group: its parameters and their scale."""

    scale: Scale
    names: list[str] = field(default_factory=list)
    parameters: list[Parameter] = field(default_factory=list)


def plan_groups(
    module: nn.Module,
    groups: Groups,
    split_matrices: bool = False,
    own_groups: Sequence[Mapping[str, Any]] | None = None,
) -> list[GroupPlan]:
    """Split a module's trainable parameters into groups.

    Args:
        module: The module.
        groups: The rules of the split. All factors that apply to a parameter are multiplied.
        split_matrices: Whether hidden matrices get separate groups (Muon).
        own_groups: The parameter groups of the module's own optimizer. The ratios of their learning rates to the
            largest one are kept. If only some of them have weight decay, the others stay without. Parameters in none
            of them are not trained; parameters in one are kept even while they are frozen.

    Returns:
        The groups in the order of their first parameter; each trained parameter is in exactly one.

    Raises:
        ModelError: No parameter is trainable, or a rule (or `lora_plus_ratio`) matches none.

    Example:
        >>> [(plan.scale.name, plan.names) for plan in plan_groups(nn.Linear(4, 2), Groups())]
        [('decay', ['weight']), ('no decay', ['bias'])]
    """
    own = _OwnGroups(own_groups)
    # including frozen ones: a hook may thaw parameters of the module's own optimizer
    among = own.of if own.given else None
    traits = [trait for trait in parameter_traits(module, own.of, among) if own.holds(trait)]
    if not any(trait.parameter.requires_grad for trait in traits):
        raise ModelError("the model has no trainable parameter that its own optimizer trains.")
    layers = _layer_scales(module, traits, groups.layer_decay if groups.scales_layers else None)
    ruled = _first_rules(traits, groups.rules)
    if groups.scales_lora_b and not any(_LORA_B.search(trait.name) for trait in traits):
        raise ModelError("groups.lora_plus_ratio is set, and no trainable parameter is named lora_B.")
    plans: dict[Scale, GroupPlan] = {}
    for trait in traits:
        scale = _scale(trait, groups, ruled.get(trait.name), layers, own, split_matrices)
        plan = plans.setdefault(scale, GroupPlan(scale))
        plan.names.append(trait.name)
        plan.parameters.append(trait.parameter)
    return list(plans.values())


def groups_of_one(module: nn.Module, own_groups: Sequence[Mapping[str, Any]] | None, groups: Groups) -> Groups:
    """Return the groups for one of a module's optimizers, without rules that only match parameters of the others.

    Args:
        module: The module.
        own_groups: The parameter groups of that optimizer; None if there is one for all.
        groups: The rules of the split.
    """
    if own_groups is None:
        return groups
    held = {id(parameter) for group in own_groups for parameter in group["params"]}
    named = [(name, id(parameter) in held) for name, parameter in module.named_parameters()]

    def is_for_others(pattern: str) -> bool:
        matched = [is_held for name, is_held in named if re.search(pattern, name)]
        return bool(matched) and not any(matched)

    rules = tuple(rule for rule in groups.rules if not is_for_others(rule.match))
    ratio = None if is_for_others(_LORA_B.pattern) else groups.lora_plus_ratio
    return replace(groups, rules=rules, lora_plus_ratio=ratio)


def read_group_facts(module: nn.Module, own_groups: Sequence[Mapping[str, Any]] | None = None) -> GroupFacts | None:
    """Read facts about the parameters that `plan_groups` splits; None before a lazy layer has its size.

    Example:
        >>> read_group_facts(nn.Linear(4, 2)).layers
        1
    """
    if any(isinstance(parameter, UninitializedParameter) for parameter in module.parameters()):
        return None
    own = _OwnGroups(own_groups)
    if not any(parameter.requires_grad or id(parameter) in own.of for parameter in module.parameters()):
        return None
    traits = [trait for trait in parameter_traits(module, own.of) if own.holds(trait)]
    depths = parameter_depths(module, traits)
    lora_b = [bool(_LORA_B.search(trait.name)) for trait in traits]
    return GroupFacts(
        names=tuple(trait.name for trait in traits),
        layers=len(set(depths.values())),
        has_norms_and_biases=any(trait.is_norm_or_bias for trait in traits),
        has_embeddings=any(trait.is_embedding and not trait.is_sparse for trait in traits),
        has_lora_b=any(lora_b) and not all(lora_b),
    )


class _OwnGroups:
    """The parameter groups of the module's own optimizer: each parameter's rate relative to the largest."""

    def __init__(self, groups: Sequence[Mapping[str, Any]] | None) -> None:
        self.given = groups is not None
        groups = groups or []
        given = [group.get("initial_lr", group.get("lr")) for group in groups]
        # an optimizer that finds its rates itself has none, so there are no ratios
        rates = [float(rate) for rate in given if is_number(rate)]
        rates = rates if len(rates) == len(groups) else [1.0] * len(groups)
        decays = [float(group.get("weight_decay", 0.0)) for group in groups]
        self.several = len(groups) > 1
        self.of: dict[int, tuple[int, float, float]] = {}
        for index, group in enumerate(groups):
            ratio = rates[index] / max(rates) if max(rates) > 0 else 1.0
            keeps_decay = decays[index] > 0 or not any(decays)
            for parameter in group["params"]:
                self.of[id(parameter)] = (index, ratio, float(keeps_decay))

    def holds(self, trait: Trait) -> bool:
        return not self.given or id(trait.parameter) in self.of

    def scale(self, trait: Trait) -> tuple[str, float, float]:
        index, lr, decay = self.of.get(id(trait.parameter), (0, 1.0, 1.0))
        return (f"own group {index + 1}" if self.several else "", lr, decay)


def _first_rules(traits: Sequence[Trait], rules: Sequence[Rule]) -> dict[str, tuple[int, Rule]]:
    ruled: dict[str, tuple[int, Rule]] = {}
    for number, rule in enumerate(rules, 1):
        matched = [trait.name for trait in traits if rule.matches(trait.name) and trait.name not in ruled]
        if not matched:
            names = ", ".join(trait.name for trait in traits[:8]) + (", ..." if len(traits) > 8 else "")
            raise ModelError(
                f"groups.rules: rule {number} ({rule.match!r}) holds for no trainable parameter that an earlier "
                f"rule left. The parameters are: {names}."
            )
        ruled |= dict.fromkeys(matched, (number, rule))
    return ruled


def _layer_scales(
    module: nn.Module, traits: Sequence[Trait], layer_decay: float | None
) -> dict[str, tuple[str, float]]:
    if layer_decay is None:
        return {}
    depths = parameter_depths(module, list(traits))
    top = max(depths.values())
    return {name: (f"layer {depth} of {top}", layer_decay ** (top - depth)) for name, depth in depths.items()}


def _scale(
    trait: Trait,
    groups: Groups,
    ruled: tuple[int, Rule] | None,
    layers: Mapping[str, tuple[str, float]],
    own: _OwnGroups,
    split_matrices: bool,
) -> Scale:
    own_name, lr, decay = own.scale(trait)
    names = [own_name]
    if ruled is not None:
        number, rule = ruled
        names.append(f"rule {number}")
        lr, decay = lr * rule.lr_mult, decay * rule.weight_decay_mult
    layer_name, layer_lr = layers.get(trait.name, ("", 1.0))
    names.append(layer_name)
    lr *= layer_lr
    if groups.scales_lora_b and _LORA_B.search(trait.name):
        names.append("lora_B")
        lr *= groups.lora_plus_ratio or 1.0
    as_matrix = trait.is_hidden_matrix if ruled is None or ruled[1].as_matrix is None else ruled[1].as_matrix
    is_matrix = split_matrices and as_matrix and trait.parameter.ndim > 1
    if split_matrices:
        names.append("matrices" if is_matrix else "rest")
    if _goes_without_decay(trait, groups):
        decay = 0.0
    names.append("decay" if decay else "no decay")
    return Scale(", ".join(filter(None, names)), lr, decay, is_matrix)


def _goes_without_decay(trait: Trait, groups: Groups) -> bool:
    is_left_out = groups.no_decay_norm_bias and trait.is_norm_or_bias
    # torch adds no decay to a sparse gradient
    return is_left_out or trait.is_sparse or (groups.no_decay_embeddings and trait.is_embedding)
