"""For how long the learning rates of a space may rise: until then trials cannot be compared."""

from collections.abc import Sequence

from opttune.catalog.lookup import find_schedule
from opttune.space.model import Choice, Field, Fixed, Range, Space

_RISES = ("warmup_fraction", "rise_fraction")
_LONGEST_WARMUP = 0.3


def longest_warmup(space: Space) -> float:
    """Return the largest share of the length over which the rates of any recipe rise, at most 0.3.

    Example:
        >>> from opttune.space.parse import load_space
        >>> longest_warmup(load_space("wide"))
        0.1
    """
    found = [0.0]
    for branch in space.schedules:
        options = {option.name: option.default for option in find_schedule(branch.name).options}
        found += [_highest(branch.get(name), options[name]) for name in _RISES if name in options]
    return min(_LONGEST_WARMUP, max(found))


def _highest(field: Field | None, default: object) -> float:
    match field:
        case Range():
            return field.high
        case Choice():
            values: Sequence[object] = field.choices
        case Fixed():
            values = (field.value,)
        case None:
            values = (default,)
    return max((float(value) for value in values if isinstance(value, int | float)), default=0.0)
