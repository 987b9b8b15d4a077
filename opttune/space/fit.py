"""Fit the priors and the varying fields of a space to the length of a training and to a budget.

`for_length` and `for_budget` are for shipped spaces. A user's own space varies as written.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from opttune.catalog.info import Info, searched_fields
from opttune.catalog.lookup import find_optimizer, find_schedule
from opttune.catalog.ranges import Search, SearchRange
from opttune.recipe import is_number
from opttune.space.model import GROUPS, LR_FACTOR, Branch, Choice, Field, Fixed, Range, Scalar, Space
from opttune.space.parse import LR_TIMES_WEIGHT_DECAY
from opttune.yaml_text import inline_yaml

HIGHEST_PLACE = 0.8
"""The highest place in its range, on the range's scale, to which a centre moves, and likewise the lowest: draws must
fall on both sides."""
FROM_BUDGET = {
    LR_FACTOR: 0,
    LR_TIMES_WEIGHT_DECAY: 10,
    "gradient_clip_norm": 25,
    "accumulate_grad_batches": 25,
    "precision": 25,
}
"""Field -> least budget, for fields outside the catalog; the others use `Search.from_budget`."""
OTHERS_FROM_BUDGET = 25
"""Least budget for a field without a search range in its row."""
RATES_OF_GROUPS = ("layer_decay", "lora_plus_ratio")
"""Fields of the parameter groups that give groups different rates; so does the `lr_ratio` of a rule."""
RATES_FROM_BUDGET = 10
"""Least budget for these; the other fields of the groups have `OTHERS_FROM_BUDGET`."""
_FINE_TUNING_SHARE = 0.5
"""The learning rates of fine-tuning follow the length by this share of the decades of rates from scratch. This is a
compromise: a sentence encoder of 22 million parameters is best at 3e-4 in 60 to 960 steps and a small ResNet at 3e-3
or more (`benchmarks/fine_tuning_rates.py`), but larger networks have recipes of 2e-5 to 5e-5 for as few steps (BERT
A.3)."""
_LONGEST_WARMUP = 0.3
_REACH_OF_FACTORS = (0.01, 100.0)
"""How far a search may move the rates of a module's own optimizers beyond their range. Chosen by hand."""


def for_length(space: Space, total_steps: int) -> Space:
    """Return a space whose optimizers start from their best values for trainings of this length.

    Short trainings need larger rates. In recorded sweeps of 300 steps (`benchmarks/prior_length.py`) the best
    ones of AdamW, NAdamW and Lion lie 6 to 40 times above the customary centres; in DeepOBS's sweeps Adam's
    best rate falls as the length to the power -0.5 (median of seven problems), which is the slope between the
    catalog's two centres. arxiv.org/abs/2409.19913 finds such a law for language models. Muon needs a larger
    rate and a shorter momentum (`benchmarks/short_muon.py`). Each centre moves as far as the catalog's own does
    (`SearchRange.centre_for`), and stays in its range: at most at `HIGHEST_PLACE`, or at its old place if that is
    higher. Choices start from the nearest one. The ranges stay, and so do the centres of an optimizer whose learning
    rates end below the customary one: it is for fine-tuning (`for_fine_tuning`) or for large models, where this law was
    not observed.

    The search calls it for a space shipped with opttune; a user's space file keeps its priors.

    Args:
        space: What may vary.
        total_steps: Optimizer steps of one full training.

    Example:
        >>> from opttune.space.parse import load_space
        >>> wide = load_space("wide")
        >>> [for_length(wide, steps).optimizers[0].get("lr").prior for steps in (300, 3_000, 30_000)]
        [0.01, 0.00316, 0.001]
    """
    return space.map_optimizers(lambda branch: _moved(branch, total_steps))


def with_room(space: Space, total_steps: int) -> Space:
    """Return a space whose learning rates reach a decade above the best ones in trainings of this length.

    This is for `auto`, which composes a space; a space requested by name keeps its ranges. In trainings of 330 steps
    the best rates of Adam for an LSTM were at the upper end of `rnn`'s range.

    Args:
        space: What may vary.
        total_steps: Optimizer steps of one full training.

    Example:
        >>> from opttune.space.parse import load_space
        >>> [with_room(load_space("rnn"), steps).optimizers[0].get("lr").high for steps in (300, 30_000)]
        [0.2, 0.03]
    """
    return space.map_optimizers(lambda branch: _with_room(branch, total_steps))


def for_fine_tuning(space: Space, total_steps: int) -> Space:
    """Return a space for fine-tuning whose learning rates are higher in short trainings.

    This is for `auto`, which composes a space; a space requested by name keeps its ranges and centres. The centre and
    the upper end of a learning rate move half as far as those from scratch, in decades. Only optimizers are moved whose
    learning rates end below the customary one for training from scratch: AdamW in `finetune`.

    Args:
        space: What may vary.
        total_steps: Optimizer steps of one full training.

    Example:
        >>> from opttune.space.parse import load_space
        >>> finetune = load_space("finetune")
        >>> [for_fine_tuning(finetune, steps).optimizers[0].get("lr").prior for steps in (300, 3_000, 30_000)]
        [9.49e-05, 5.33e-05, 3e-05]
    """
    return space.map_optimizers(lambda branch: _fine_tuned(branch, total_steps))


def with_reach(space: Space) -> Space:
    """Return a space in which a search may leave the range of a learning rate, up to the catalog's range.

    This is for searches of shipped spaces, whose ranges are starting points. The ranges of a user's space are strict.

    Args:
        space: What may vary.

    Example:
        >>> from opttune.space.parse import load_space
        >>> rate = with_reach(load_space("finetune")).optimizers[0].get("lr")
        >>> rate.low, rate.high, rate.reach
        (1e-05, 0.0001, (1e-05, 0.1))
    """
    return space.map_optimizers(_with_reach)


def _with_reach(branch: Branch) -> Branch:
    field, search = branch.rate, _search(branch.names[0])
    if not isinstance(field, Range) or field.scale != "log" or field.integer or field.reach is not None:
        return branch
    ends = _REACH_OF_FACTORS if branch.is_own else (search.low, search.high) if search else None
    if ends is None:
        return branch
    return branch.with_rate(replace(field, reach=(min(ends[0], field.low), max(ends[1], field.high))))


def lr_factor(optimizer: str, total_steps: int) -> float:
    """Return the factor of an optimizer's best learning rate at this length over the customary one.

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
    return branch.with_field("lr", replace(lr, high=max(lr.high, float(f"{10 * lr.centre * factor:.3g}"))))


def _fine_tuned(branch: Branch, total_steps: int) -> Branch:
    lr, search, factor = branch.get("lr"), _search(branch.name), lr_factor(branch.name, total_steps)
    if not isinstance(lr, Range) or search is None or lr.high >= search.centre or factor == 1.0:
        return branch
    higher = factor**_FINE_TUNING_SHARE
    high = float(f"{lr.high * higher:.3g}")
    return branch.with_field("lr", replace(lr, high=high, prior=lr.rounded(lr.centre * higher)))


def _search(optimizer: str) -> SearchRange | None:
    search = searched_fields(find_optimizer(optimizer)).get("lr")
    return search if isinstance(search, SearchRange) else None


def _moved(branch: Branch, total_steps: int) -> Branch:
    lr, search = branch.get("lr"), _search(branch.name)
    if not isinstance(lr, Range) or search is None or lr.high < search.centre:
        return branch
    searched = searched_fields(find_optimizer(branch.name))
    return branch.map_fields(lambda name, field: _moved_field(field, searched.get(name), total_steps))


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
    return replace(field, prior=field.rounded(min(highest, max(lowest, aim))))


def _moved_choice(field: Choice, search: SearchRange, way: float) -> Choice:
    """Return choices that start from the one nearest to the moved start."""
    places = {
        index: search.place(one)
        for index, one in enumerate(field.choices)
        if is_number(one) and search.has_place_for(one)
    }
    if field.start not in places:
        return field
    aim = places[field.start] + way
    return replace(field, start=min(places, key=lambda index: abs(places[index] - aim)))


def longest_warmup(space: Space) -> float:
    """Return the largest share of the length over which the rates of any recipe rise, at most 0.3.

    Example:
        >>> from opttune.space.parse import load_space
        >>> longest_warmup(load_space("wide"))
        0.1
    """
    found = [
        _highest(branch.get(option.name), option.default)
        for branch in space.schedules
        for option in find_schedule(branch.name).options
        if option.rises
    ]
    return min(_LONGEST_WARMUP, max(found, default=0.0))


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


@dataclass(frozen=True, slots=True)
class Held:
    """A field that a budget is too small to vary.

    Attributes:
        name: Its full name, such as `adamw.weight_decay`.
        value: Its fixed value.
        from_budget: Budget, in full trainings, from which it varies.
    """

    name: str
    value: Scalar
    from_budget: int

    def __str__(self) -> str:
        value = f"{self.value:.4g}" if isinstance(self.value, float) else inline_yaml(self.value)
        return f"{self.name} = {value} (varies from a budget of {self.from_budget} trainings on)"


def for_budget(space: Space, budget: float) -> tuple[Space, tuple[Held, ...]]:
    """Return a space in which only the fields within the budget vary, and the fields that stay fixed.

    This follows the Deep Learning Tuning Playbook: few trainings find the learning rate (and the optimizer and the
    schedule); from 10 on, warmup, weight decay and beta1 are worth varying; from 25 on, the rest. A fixed field stays
    at its centre.

    The search calls it for a space shipped with opttune and for `auto`, not for a user's space file.

    Args:
        space: What may vary.
        budget: Cost of the search in full trainings.

    Example:
        >>> from opttune.space.parse import load_space
        >>> space, held = for_budget(load_space("adamw"), budget=5)
        >>> [name for name, _ in space.parameters()]
        ['adamw.lr', 'schedule']
        >>> print(held[1])
        adamw.weight_decay = 0.01 (varies from a budget of 10 trainings on)
    """
    varying = set(fields_for_budget(space, budget))
    held = tuple(
        Held(name, _centre(field), least)
        for name, field, least in _fields(space)
        if not isinstance(field, Fixed) and name not in varying
    )
    values = {one.name: Fixed(one.value) for one in held}
    return space.map_fields(lambda name, field: values.get(name, field)), held


def fields_for_budget(space: Space, budget: float) -> tuple[str, ...]:
    """Return the full names of the fields that vary with this budget, in the space's order.

    They do not include the choices of the optimizer and the schedule, which vary with any budget.

    Example:
        >>> from opttune.space.parse import load_space
        >>> fields_for_budget(load_space("lion"), budget=10)
        ('lion.lr', 'lion.beta1', 'lion.weight_decay', 'cosine.warmup_fraction', 'linear.warmup_fraction')
    """
    return tuple(name for name, field, least in _fields(space) if not isinstance(field, Fixed) and budget >= least)


def _fields(space: Space) -> Iterator[tuple[str, Field, int]]:
    """Yield each field's full name, the field and its least budget."""
    rows: list[tuple[Branch, Info]] = [(branch, find_optimizer(branch.name)) for branch in space.optimizers]
    rows += [(branch, find_schedule(branch.name)) for branch in space.schedules]
    for branch, info in rows:
        for name, field in branch.fields:
            yield f"{branch.name}.{name}", field, _least_budget(name, info)
    for name, field in space.training:
        yield name, field, FROM_BUDGET[name]
    for name, field in space.group_fields:
        is_rate = name in RATES_OF_GROUPS or name.startswith("lr_ratio_")
        yield f"{GROUPS}.{name}", field, RATES_FROM_BUDGET if is_rate else OTHERS_FROM_BUDGET


def _least_budget(name: str, info: Info) -> int:
    search = searched_fields(info).get(name)
    return FROM_BUDGET.get(name, OTHERS_FROM_BUDGET) if search is None else search.from_budget


def _centre(field: Range | Choice) -> Scalar:
    return int(field.centre) if isinstance(field, Range) and field.integer else field.centre
