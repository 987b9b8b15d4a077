"""Move the centres of priors with the length of the training: of learning rates, and what else the catalog knows of."""

from dataclasses import replace

from opttune.catalog.info import searched_fields
from opttune.catalog.lookup import find_optimizer
from opttune.catalog.ranges import Search, SearchRange
from opttune.recipe import is_number
from opttune.space.model import Branch, Choice, Field, Fixed, Range, Space

HIGHEST_PLACE = 0.8
"""How far up its range, on the range's scale, a centre is moved at most, and as far down: draws must fall on both
sides."""


def for_length(space: Space, total_steps: int) -> Space:
    """Return a space whose optimizers start from where they are best in trainings of that length.

    Short trainings want larger rates. In recorded sweeps of 300 steps (`benchmarks/prior_length.py`) the best
    ones of AdamW, NAdamW and Lion lie 6 to 40 times above the customary centres; in DeepOBS's sweeps Adam's
    best rate falls as the length to the power -0.5 (median of seven problems), which is the slope between the
    catalog's two centres. arxiv.org/abs/2409.19913 finds such a law for language models. Muon wants a larger
    rate and a shorter momentum (`benchmarks/short_muon.py`). Each centre moves as far as the catalog's own does
    (`SearchRange.centre_for`), and stays in its range: at most at `HIGHEST_PLACE`, or where it was if that is
    higher; choices start from the nearest. The ranges stay, and so do the centres of an optimizer whose learning
    rates end below the customary one: it is for fine-tuning or for large models, where this law was not seen.

    The search calls it once it knows the length, once for a space that ships with opttune; a space file of
    the user's own keeps its priors.

    Args:
        space: What may vary.
        total_steps: Optimizer steps of one full training.

    Example:
        >>> from opttune.space.parse import load_space
        >>> wide = load_space("wide")
        >>> [for_length(wide, steps).optimizers[0].get("lr").prior for steps in (300, 3_000, 30_000)]
        [0.01, 0.00316, 0.001]
    """
    return replace(space, optimizers=tuple(_moved(branch, total_steps) for branch in space.optimizers))


def with_room(space: Space, total_steps: int) -> Space:
    """Return a space whose learning rates reach a decade above where they are best in trainings of that length.

    For `auto`, which composes a space of its own; a space that was asked for by name keeps its ranges. In trainings of
    330 steps the best rates of Adam for an LSTM stood at the upper end of `rnn`'s range.

    Args:
        space: What may vary.
        total_steps: Optimizer steps of one full training.

    Example:
        >>> from opttune.space.parse import load_space
        >>> [with_room(load_space("rnn"), steps).optimizers[0].get("lr").high for steps in (300, 30_000)]
        [0.2, 0.03]
    """
    return replace(space, optimizers=tuple(_with_room(branch, total_steps) for branch in space.optimizers))


def lr_factor(optimizer: str, total_steps: int) -> float:
    """Return by how much an optimizer's best learning rate lies above the customary one at that length.

    Example:
        >>> lr_factor("adamw", 300), lr_factor("adamw", 100_000), lr_factor("sgd", 300)
        (10.0, 1.0, 1.0)
    """
    search = _search(optimizer)
    return float(f"{search.centre_for(total_steps) / search.centre:.9g}") if search else 1.0


def _with_room(branch: Branch, total_steps: int) -> Branch:
    lr, search, factor = branch.get("lr"), _search(branch.name), lr_factor(branch.name, total_steps)
    if not isinstance(lr, Range) or search is None or lr.high < search.centre or factor == 1.0:
        return branch
    roomy = replace(lr, high=max(lr.high, float(f"{10 * lr.centre * factor:.3g}")))
    return replace(branch, fields=tuple((name, roomy if name == "lr" else field) for name, field in branch.fields))


def _search(optimizer: str) -> SearchRange | None:
    search = searched_fields(find_optimizer(optimizer)).get("lr")
    return search if isinstance(search, SearchRange) else None


def _moved(branch: Branch, total_steps: int) -> Branch:
    lr, search = branch.get("lr"), _search(branch.name)
    if not isinstance(lr, Range) or search is None or lr.high < search.centre:
        return branch
    searched = searched_fields(find_optimizer(branch.name))
    fields = ((name, _moved_field(field, searched.get(name), total_steps)) for name, field in branch.fields)
    return replace(branch, fields=tuple(fields))


def _moved_field(field: Field, search: Search | None, total_steps: int) -> Field:
    if not isinstance(search, SearchRange):
        return field
    way = search.place(search.centre_for(total_steps)) - search.place(search.centre)
    if isinstance(field, Fixed) or way == 0:
        return field
    if isinstance(field, Choice):
        return _moved_choice(field, search, way)
    if not search.has_place_for(field.centre):
        return field
    aim = search.at(search.place(field.centre) + way)
    highest, lowest = max(field.centre, field.at(HIGHEST_PLACE)), min(field.centre, field.at(1 - HIGHEST_PLACE))
    prior = min(highest, max(lowest, aim))
    rounded = 1 - float(f"{1 - prior:.3g}") if field.scale == "log_of_one_minus" else float(f"{prior:.3g}")
    return replace(field, prior=min(field.high, max(field.low, rounded)))


def _moved_choice(field: Choice, search: SearchRange, way: float) -> Choice:
    """Return choices that start from the one that is nearest to where the start moves."""
    places = {
        index: search.place(one)
        for index, one in enumerate(field.choices)
        if is_number(one) and search.has_place_for(one)
    }
    if field.start not in places:
        return field
    aim = places[field.start] + way
    return replace(field, start=min(places, key=lambda index: abs(places[index] - aim)))
