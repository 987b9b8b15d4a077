"""Warnings about the space, from the results of a search: best values at an edge, diverged learning rates."""

from collections.abc import Sequence

from opttune.recipe import OWN, Recipe, Value, numbered, part_names
from opttune.space.model import GROUPS, LR_FACTOR, Field, Range, Space
from opttune.space.sample import group_fields
from opttune.trial_record import TrialRecord

_EDGE = 0.03
"""A best value within this share of its range, on the field's scale, is at the edge. Chosen by hand."""
_CONTINUE = "Next: the same command with a larger budget (--budget), in which the line search may go beyond it."


def edge_warnings(best: Recipe, space: Space, records: Sequence[TrialRecord]) -> list[str]:
    """Return a warning for each field of the best recipe at the edge of its range, with the command to run next.

    Args:
        best: The best recipe.
        space: The space.
        records: All trials. If one of the same optimizer lies beyond an edge, the best value there is a finding.
    """
    flat = _values_of(best, space)
    found = []
    of_groups = dict(space.group_fields)
    for name, field in _fields_of(best, space):
        value = flat.get(name)
        if not isinstance(field, Range) or not isinstance(value, int | float):
            continue
        place = field.place(value)
        if field.reach is not None and not field.low <= value <= field.high:
            found.append(
                f"the best {name} {value:.3g} lies beyond the range {field.low:g}..{field.high:g} of the space "
                f"{space.name}: values still improved at its end, so the line search went further."
            )
            continue
        # 0 is a natural end, and a value at the prior is not a finding of the search
        if value == field.prior or (place <= _EDGE and field.low == 0):
            continue
        # with a factor of 1, a group has the rate of the others
        if name in of_groups and (field.low if place <= _EDGE else field.high) == 1:
            continue
        if place <= _EDGE or place >= 1 - _EDGE:
            end = "lower" if place <= _EDGE else "upper"
            if _is_passed(name, field, end, best, space, records):
                continue
            branch = GROUPS if name in of_groups else best.optimizer.name
            next_step = _CONTINUE if _reaches_on(field, end) else _next_step(space, branch, name)
            found.append(
                f"the best {name} {value:.3g} lies at the {end} edge of its range {field.low:g}..{field.high:g} in "
                f"the space {space.name}: better values may lie beyond. {next_step}"
            )
    return found


def stability(records: Sequence[TrialRecord]) -> list[str]:
    """Return, for each optimizer with diverged trials, their number and the highest stable learning rate."""
    found = []
    for name in dict.fromkeys(record.recipe.optimizer.name for record in records if record.recipe):
        own = [record for record in records if record.recipe and record.recipe.optimizer.name == name]
        diverged = [_lr(r) for r in own if r.outcome is not None and r.outcome.has_diverged]
        stable = [_lr(r) for r in own if r.value is not None]
        if not diverged:
            continue
        highest = f"the highest that stayed stable is {max(stable):.3g}" if stable else "none stayed stable"
        share = f"{len(diverged)} of {len(own)} trials diverged"
        found.append(f"{name}: {share}, from a learning rate of {min(diverged):.3g}; {highest}")
    return found


def _lr(record: TrialRecord) -> float:
    return record.rate or 0.0


def _fields_of(best: Recipe, space: Space) -> list[tuple[str, Field]]:
    optimizer = next((branch for branch in space.optimizers if branch.name == best.optimizer.name), None)
    if optimizer is None:
        return []
    schedule = next((one for one in space.schedules_of(optimizer) if one.name == best.schedule.name), None)
    return [
        *optimizer.fields,
        *(schedule.fields if schedule else ()),
        *space.training_of(optimizer),
        *group_fields(space, optimizer),
    ]


def _values_of(best: Recipe, space: Space) -> dict[str, Value]:
    """Return the value of each field of a recipe in the terms of the space."""
    flat = best.flat()
    branch = next((one for one in space.optimizers if one.name == best.optimizer.name), None)
    parts = best.optimizer.split()
    common = parts[0].rate
    if len(parts) == 1 or branch is None or branch.get(LR_FACTOR) is None or not common or not branch.is_own:
        return flat
    # a recipe has the rate of each optimizer; this space has factors relative to the first one
    shares = {numbered(number, LR_FACTOR): (part.rate or 1.0) / common for number, part in enumerate(parts)}
    return flat | shares | {LR_FACTOR: common}


def _is_passed(name: str, field: Range, end: str, best: Recipe, space: Space, records: Sequence[TrialRecord]) -> bool:
    """Whether a trial of the same optimizer lies beyond that end of a range."""
    recipes = [one.recipe for one in records if one.recipe and one.recipe.optimizer.name == best.optimizer.name]
    values = [value for recipe in recipes if isinstance(value := _values_of(recipe, space).get(name), int | float)]
    return any(value < field.low if end == "lower" else value > field.high for value in values)


def _reaches_on(field: Range, end: str) -> bool:
    if field.reach is None:
        return False
    return field.reach[0] < field.low if end == "lower" else field.reach[1] > field.high


def _next_step(space: Space, branch: str, field: str) -> str:
    if len(part_names(branch)) > 1 or branch == OWN:
        return f"Next: write a space file with a wider {field} (opttune spaces show own)."
    if branch == GROUPS or space.name in ("auto", "wide"):
        shown = "" if branch == GROUPS else " (opttune spaces show wide)"
        return f"Next: write a space file with a wider {branch}.{field}{shown}."
    return "Next: the same command with --space wide."
