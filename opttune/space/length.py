"""Move the centre of a learning rate's prior with the length of the training."""

from dataclasses import replace

from opttune.catalog.lookup import find_optimizer
from opttune.catalog.ranges import SearchRange
from opttune.space.model import Branch, Range, Space

HIGHEST_PLACE = 0.8
"""How far up its range, on the range's scale, a centre is moved at most: draws must fall on both sides."""


def for_length(space: Space, total_steps: int) -> Space:
    """Return a space whose learning rates start from where they are best in trainings of that length.

    Short trainings want larger rates. In recorded sweeps of 300 steps (`benchmarks/prior_length.py`) the best
    ones of AdamW, NAdamW and Lion lie 6 to 40 times above the customary centres; in DeepOBS's sweeps Adam's
    best rate falls as the length to the power -0.5 (median of seven problems), which is the slope between the
    catalog's two centres. arxiv.org/abs/2409.19913 finds such a law for language models. Each centre is
    multiplied by what the catalog says of its optimizer (`SearchRange.centre_for`), and stays in its range: at
    most at `HIGHEST_PLACE`, or where it was if that is higher. The ranges stay, and so does the centre of one
    that ends below the customary rate: it is for fine-tuning or for large models, where this law was not seen.

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
    search = find_optimizer(optimizer).options[0].searchable.get("lr")
    return search if isinstance(search, SearchRange) else None


def _moved(branch: Branch, total_steps: int) -> Branch:
    lr, search = branch.get("lr"), _search(branch.name)
    factor = lr_factor(branch.name, total_steps)
    if not isinstance(lr, Range) or search is None or lr.high < search.centre or factor == 1.0:
        return branch
    limit = max(lr.centre, lr.at(HIGHEST_PLACE))
    prior = float(f"{min(lr.centre * factor, limit):.3g}")
    raised = replace(lr, prior=min(lr.high, max(lr.low, prior)))
    return replace(branch, fields=tuple((name, raised if name == "lr" else field) for name, field in branch.fields))
