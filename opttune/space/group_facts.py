"""Leave out the fields of parameter groups that have no effect on a module."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from opttune.errors import SpaceError
from opttune.space.model import GROUPS, Choice, Range, SettledSpace, Space
from opttune.space.sample import why_unasked


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """Facts about a module's parameters for their groups; `opttune.build.groups.read_group_facts` reads them.

    Attributes:
        names: Names of the trained parameters.
        layers: The number of their layers.
        has_norms_and_biases: Whether they include norms or biases.
        has_embeddings: Whether they include embeddings with weight decay.
        has_lora_b: Whether they include LoRA's B matrices and other parameters.
    """

    names: tuple[str, ...]
    layers: int = 2
    has_norms_and_biases: bool = True
    has_embeddings: bool = True
    has_lora_b: bool = True


def without_group_fields(space: Space) -> Space:
    """Return a space whose groups do not vary: it leaves out rules with varying factors.

    It fits every module, whatever the names of its parameters.
    """
    if not space.group_fields:
        return space
    varying = {_rule_of(space, name) for name, _ in space.group_fields}
    rules = tuple(rule for index, rule in enumerate(space.groups.rules) if index not in varying)
    return replace(space, groups=replace(space.groups, rules=rules), group_fields=())


def with_fitting_groups(settled: SettledSpace, facts: GroupFacts | None) -> SettledSpace:
    """Return a space that varies only effective fields of the parameter groups, with notes on the others.

    A rule with varying factors is left out if it matches no parameter. An optimizer is sampled without the fields that
    it cannot use (`sample.group_fields`); a note says so.

    Args:
        settled: The space.
        facts: Facts about the module's parameters; None if they are unknown, so nothing is left out.

    Raises:
        SpaceError: A rule with fixed factors matches no parameter that an earlier rule left.

    Example:
        >>> from opttune.space.parse import parse_space
        >>> space = parse_space("{optimizer: adamw, groups: {layer_decay: {low: 0.5, high: 1.0}}}", "mine")
        >>> fitting = with_fitting_groups(SettledSpace(space), GroupFacts(("weight", "bias"), layers=1))
        >>> print(fitting.space.group_fields, *fitting.notes)
        () groups.layer_decay is left out: all trained parameters are in one layer.
    """
    space = settled.space
    if not space.group_fields:
        return settled
    gone = _idle_rules(space, facts) if facts else {}
    reasons = {
        name: gone.get(_rule_of(space, name), "") or _why_idle(space, name, facts) for name, _ in space.group_fields
    }
    notes = [f"{GROUPS}.{name} is left out: {why}." for name, why in reasons.items() if why]
    kept = {name: field for name, field in space.group_fields if not reasons[name]}
    fitting = _without(space, kept, set(gone))
    return replace(settled, space=fitting, notes=(*settled.notes, *notes, *_unasked(space, list(kept))))


def _without(space: Space, kept: dict[str, Range | Choice], gone: set[int]) -> Space:
    """Return a space with some of its group fields; the names of a rule's fields change with the other rules."""
    rules = tuple(rule for index, rule in enumerate(space.groups.rules) if index not in gone)
    groups = replace(space.groups, rules=rules)
    places = space.groups.rule_fields
    left = [index for index in range(len(space.groups.rules)) if index not in gone]
    names = {(left[index], attribute): name for name, (index, attribute) in groups.rule_fields.items()}
    fields = tuple((names[places[name]] if name in places else name, field) for name, field in kept.items())
    return replace(space, groups=groups, group_fields=fields)


def _rule_of(space: Space, name: str) -> int:
    """Return the number of a field's rule; -1 for none."""
    return space.groups.rule_fields.get(name, (-1, ""))[0]


def _idle_rules(space: Space, facts: GroupFacts) -> dict[int, str]:
    """Return the rules with varying factors that match no parameter, each with the reason.

    Raises:
        SpaceError: A rule with fixed factors matches no parameter.
    """
    varying = {_rule_of(space, name) for name, _ in space.group_fields}
    found, left = {}, list(facts.names)
    for index, rule in enumerate(space.groups.rules):
        others = [name for name in left if not rule.matches(name)]
        if len(others) == len(left):
            names = ", ".join(facts.names[:8]) + (", ..." if len(facts.names) > 8 else "")
            why = f"no trained parameter that an earlier rule left matches {rule.match!r} (there are {names})"
            if index not in varying:
                raise SpaceError(f"space {space.name}: groups.rules: {why}: change it, or leave the rule out.")
            found[index] = why
        left = others
    return found


def _why_idle(space: Space, name: str, facts: GroupFacts | None) -> str:
    """Return why a field has no effect; empty if it has one."""
    unasked = [why_unasked(name, branch) for branch in space.optimizers]
    if all(unasked):
        names = ", ".join(branch.name for branch in space.optimizers)
        return f"{unasked[0]} ({names})"
    if facts is None:
        return ""
    if name.startswith("lr_ratio_"):
        rule = space.groups.rules[_rule_of(space, name)]
        matches_all = all(map(rule.matches, facts.names))
        return "its rule matches all trained parameters, so it is the learning rate itself" if matches_all else ""
    return {
        "layer_decay": "all trained parameters are in one layer" if facts.layers < 2 else "",
        "lora_plus_ratio": "" if facts.has_lora_b else "no trained parameter is LoRA's B matrix (lora_B)",
        "no_decay_embeddings": "" if facts.has_embeddings else "no embedding is trained with weight decay",
        "no_decay_norm_bias": "" if facts.has_norms_and_biases else "no norm or bias is trained",
    }.get(name, "")


def _unasked(space: Space, names: list[str]) -> Iterator[str]:
    """Yield the fields that some of the optimizers cannot use."""
    for branch in space.optimizers:
        reasons: dict[str, list[str]] = {}
        for name in names:
            if why := why_unasked(name, branch):
                reasons.setdefault(why, []).append(f"{GROUPS}.{name}")
        yield from (f"{branch.name} goes without {', '.join(left)}: {why}." for why, left in reasons.items())
