"""`auto`: choose a space for a module, a length and a budget, and give the reasons.

`plan_for` finds the kind of a module from its `ModelFacts`. The plan of that kind names optimizers of shipped spaces,
the safest first. `choose_space` combines them into one space.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

from opttune.catalog.info import OptimizerInfo
from opttune.catalog.lookup import find_optimizer
from opttune.recipe import OWN
from opttune.space.fit import Held, for_budget, for_fine_tuning, for_length, with_room
from opttune.space.group_facts import GroupFacts
from opttune.space.model import RACED_FROM_STEPS, Branch, Choice, Field, Fixed, Range, SettledSpace, Space
from opttune.space.own import EACH_FROM_BUDGET, OwnFacts, own_branch, with_own_values
from opttune.space.parse import load_space

SHORT_STEPS = 3_000
"""Below this length a training is short: customary ranges for training from scratch do not reach the best rates."""
MUON_FIRST_FROM, MUON_FIRST_TO = 200, 1_000
"""In trainings from scratch of this many steps, Muon's default is mostly the best (`benchmarks/default_recipes.py`)."""
LONG_STEPS = 10_000
"""From this length on, a large transformer's training counts as pretraining."""
LARGE = 50_000_000
"""A transformer with at least this many trained parameters counts as large."""
FINE_TUNED_FROM = 10_000_000
"""A network with trained norms is fine-tuned at low rates from this number of trained parameters on. Chosen by hand
between the networks of `benchmarks/fine_tuning_rates.py`: one of 22 million wants them, one of 41,000 does not."""
HEAD_SHARE = 0.05
"""Below this trained share, without LoRA, the module trains new layers on top of frozen ones."""
PRETRAINED_SHARE = 0.45
"""Below this trained share, frozen weights count as pretrained; a frozen target network or teacher makes one half."""
OPTIMIZERS_BELOW = ((5, 1), (10, 2), (25, 3))
"""Budget -> most optimizers to search below it in short trainings: each one costs further trainings."""
SCHEDULES_BELOW = ((5, 1), (10, 2))
"""Budget -> most schedules to search below it."""
_CLIP = "gradient_clip_norm"


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Facts about a module, as `opttune.build.module_facts.read_facts` reads them.

    Attributes:
        parameters: Numbers in all parameters; 0 if the module creates them only when the training starts.
        trainable_share: The trained share of them.
        has_convolutions: Whether there is a convolutional layer.
        has_attention: Whether there is attention.
        is_recurrent: Whether there is an LSTM, a GRU or another recurrent layer.
        has_norms: Whether there is batch, layer or another norm.
        has_lora: Whether LoRA's matrices are trained.
        has_embeddings: Whether there is a table of embeddings.
        has_hidden_matrices: Whether a weight between hidden layers is trained, as Muon needs it.
        looks_pretrained: Whether the weights name their origin.
        has_trained_norms: Whether norms that are trained look trained already; False if all norms are new, None if
            neither is certain.
        has_complex: Whether a complex parameter is trained.
        has_sparse: Whether a parameter has sparse gradients.
        is_manual: Whether the module steps its optimizers itself.
        own: The module's own optimizers; None if none of them works.
        groups: Facts for the parameter groups; None if they are unknown.

    Example:
        >>> ModelFacts(parameters=1_000_000, trainable_share=0.01, has_lora=True).trainable
        10000
    """

    parameters: int
    trainable_share: float = 1.0
    has_convolutions: bool = False
    has_attention: bool = False
    is_recurrent: bool = False
    has_norms: bool = False
    has_lora: bool = False
    has_embeddings: bool = False
    has_hidden_matrices: bool = False
    looks_pretrained: bool = False
    has_trained_norms: bool | None = None
    has_complex: bool = False
    has_sparse: bool = False
    is_manual: bool = False
    own: OwnFacts | None = None
    groups: GroupFacts | None = None

    @property
    def trainable(self) -> int:
        """Numbers in the trained parameters."""
        return round(self.parameters * self.trainable_share)


@dataclass(frozen=True, slots=True)
class Pick:
    """An optimizer of a shipped space, and the reason for it.

    Attributes:
        space: The space.
        optimizer: Its optimizer.
        why: The reason, as the end of a sentence.
    """

    space: str
    optimizer: str
    why: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The choices for one kind of module.

    Attributes:
        words: A description of the module.
        home: The shipped space that gives the schedules, the clipping and the groups.
        picks: Optimizers, the safest first.
        beware: A sentence on a possible mistake; may be empty.
        is_from_scratch: Whether rates may be as high as for weights that start at random.
    """

    words: str
    home: str
    picks: tuple[Pick, ...]
    beware: str = ""
    is_from_scratch: bool = True


WIDE_ADAMW = Pick("wide", "adamw", "the customary choice, in a range for short and long trainings")
WIDE_SGD = Pick("wide", "sgd", "with momentum it is often the best for small networks, and the cheapest")
WIDE_MUON = Pick("wide", "muon", "among the strongest for hidden matrices at equal steps (arxiv.org/abs/2509.02046)")
WIDE_NADAMW = Pick("wide", "nadamw", "slightly better than AdamW in recorded sweeps of 300 steps")
WIDE_LION = Pick("wide", "lion", "steps of equal size, unlike all the others")
CONV_SGD = Pick("sgd", "sgd", "convolutional networks with norms were designed for it")

LORA = Plan(
    "a frozen network with LoRA matrices",
    "lora",
    (Pick("lora", "adamw", "LoRA recipes use AdamW, at ten times the rate of full fine-tuning"),),
    is_from_scratch=False,
)
PRETRAINED = Plan(
    "a pretrained network in further training",
    "finetune",
    (
        Pick("finetune", "adamw", "small rates keep what the network has learned"),
        Pick("lion", "lion", "half of AdamW's memory, at rates 3 to 10 times lower"),
    ),
    is_from_scratch=False,
)
HEAD = Plan(
    "new layers on top of a frozen network",
    "small_data",
    (
        Pick("small_data", "adamw", "the new layers start from scratch, so fine-tuning rates do not apply"),
        Pick("small_data", "sgd", "few weights on fixed features are an easy problem for momentum"),
    ),
    is_from_scratch=False,
)
RECURRENT = Plan(
    "a recurrent network",
    "rnn",
    (
        Pick("rnn", "adam", "the safest under gradients that vary by orders of magnitude over time"),
        WIDE_MUON,
        Pick("rnn", "sgd", "with clipping it held the records of LSTM language models"),
        Pick("rnn", "rmsprop", "the traditional choice for recurrent networks"),
    ),
)
PRETRAINING = Plan(
    "a large transformer, trained from scratch for long",
    "adamw_pretrain",
    (
        Pick("adamw_pretrain", "adamw", "the standard choice for pretraining language models"),
        Pick("muon", "muon", "among the strongest for hidden matrices at equal steps (arxiv.org/abs/2509.02046)"),
        WIDE_LION,
        Pick("soap", "soap", "among the strongest per step, like Muon, at several times AdamW's memory"),
    ),
)
VISION_TRANSFORMER = Plan(
    "a vision transformer (attention and convolutions, no embedding table)",
    "vision_adamw",
    (
        Pick("vision_adamw", "adamw", "the standard choice for vision transformers"),
        Pick("muon", "muon", "among the strongest for hidden matrices at equal steps (arxiv.org/abs/2509.02046)"),
        WIDE_LION,
    ),
)
TRANSFORMER = Plan("a transformer", "wide", (WIDE_ADAMW, WIDE_MUON, WIDE_NADAMW, WIDE_LION))
CONVOLUTIONAL = Plan("a convolutional network", "wide", (CONV_SGD, WIDE_ADAMW, WIDE_MUON, WIDE_NADAMW))
CONVOLUTIONAL_WITHOUT_NORMS = Plan(
    "a convolutional network without norms", "wide", (WIDE_ADAMW, WIDE_MUON, WIDE_SGD, WIDE_NADAMW)
)
PLAIN = Plan(
    "a network of {trainable:,} trained parameters without convolutions, attention or recurrence",
    "wide",
    (WIDE_ADAMW, WIDE_MUON, WIDE_SGD, WIDE_NADAMW, WIDE_LION),
)
UNKNOWN = Plan(
    "a network that creates its layers only in training, so nothing is known about it",
    "wide",
    (WIDE_ADAMW, WIDE_SGD, WIDE_NADAMW, WIDE_LION),
)
MAYBE_PRETRAINED = (
    "opttune cannot see whether the weights are pretrained; if they are, search space 'finetune', with lower rates."
)
TRAINED_NORMS = (
    "The module's norms look trained, so its weights count as pretrained. If they are not, search space 'wide', with "
    "higher rates; to start from new weights, give the class instead of a trained instance."
)
SMALL_PRETRAINED = (
    "The module's norms look trained. It starts at the rates of training from scratch, as small networks learn on with "
    "them; if values are poor, search space 'finetune', with lower rates."
)


def plan_for(facts: ModelFacts, total_steps: int) -> Plan:
    """Return the plan for a module: that of the first kind that fits.

    Example:
        >>> plan_for(ModelFacts(1_000_000, is_recurrent=True), total_steps=1_000).home
        'rnn'
    """
    plan = _kind(facts, total_steps)
    return replace(plan, words=plan.words.format(trainable=facts.trainable), beware=_beware(plan, facts))


def _beware(plan: Plan, facts: ModelFacts) -> str:
    """Return what may be wrong about the weights' past; empty where nothing leaves a doubt."""
    if plan is PRETRAINED:
        return "" if _is_surely_pretrained(facts) else TRAINED_NORMS
    if not plan.is_from_scratch or facts.has_trained_norms is False:
        return ""
    if facts.has_trained_norms:
        return SMALL_PRETRAINED
    return MAYBE_PRETRAINED if facts.has_attention else ""


def _is_surely_pretrained(facts: ModelFacts) -> bool:
    # Hugging Face's `from_config` keeps the name of the origin, with new weights
    has_origin = facts.looks_pretrained and facts.has_trained_norms is not False
    return has_origin or facts.trainable_share < PRETRAINED_SHARE


def in_order(plan: Plan, picks: tuple[Pick, ...], total_steps: int) -> tuple[Pick, ...]:
    """Return the optimizers of a plan in the order in which their default recipes are tried.

    Args:
        plan: The plan.
        picks: Its optimizers in the search.
        total_steps: Optimizer steps of one full training.
    """
    if not plan.is_from_scratch or not MUON_FIRST_FROM <= total_steps <= MUON_FIRST_TO:
        return picks
    return tuple(sorted(picks, key=lambda pick: pick is not WIDE_MUON))


def _kind(facts: ModelFacts, total_steps: int) -> Plan:
    if facts.has_lora:
        return LORA
    if facts.parameters == 0:
        return UNKNOWN
    if facts.trainable_share < HEAD_SHARE:
        return HEAD
    if _is_surely_pretrained(facts) or (facts.has_trained_norms and facts.trainable >= FINE_TUNED_FROM):
        return PRETRAINED
    if facts.is_recurrent:
        return RECURRENT
    if facts.has_attention:
        return _transformer(facts, total_steps)
    if facts.has_convolutions:
        return CONVOLUTIONAL if facts.has_norms else CONVOLUTIONAL_WITHOUT_NORMS
    return PLAIN


def _transformer(facts: ModelFacts, total_steps: int) -> Plan:
    if facts.has_convolutions and not facts.has_embeddings and total_steps >= SHORT_STEPS:
        return VISION_TRANSFORMER
    if facts.trainable >= LARGE and total_steps >= LONG_STEPS:
        return PRETRAINING
    return TRANSFORMER


def choose_space(facts: ModelFacts, total_steps: int, budget: float) -> SettledSpace:
    """Choose optimizers, schedules and ranges for a module.

    Every branch comes from a shipped space, so each range and its source are written once. `for_length`,
    `for_fine_tuning` and `for_budget` are already applied.

    Args:
        facts: Facts about the module.
        total_steps: Optimizer steps of one full training.
        budget: Cost of the search in full trainings.

    Returns:
        The space, with priors for the length and fields for the budget, and one sentence for each choice.

    Example:
        >>> chosen = choose_space(ModelFacts(50_000, has_hidden_matrices=True), total_steps=300, budget=8)
        >>> [branch.name for branch in chosen.space.optimizers]
        ['muon', 'adamw']
        >>> print(chosen.notes[0])
        The module is a network of 50,000 trained parameters without convolutions, attention or recurrence.
    """
    if facts.own is not None and facts.own.count > 1:
        return own_alone(facts.own, budget)
    plan = plan_for(facts, total_steps)
    picks = in_order(plan, _picks(plan, facts, total_steps, budget), total_steps)
    # one file can hold several of the picks
    load = cache(load_space)
    home = load(plan.home)
    schedules = home.schedules[: _at_most(SCHEDULES_BELOW, budget, len(home.schedules))]
    chosen = Space(
        name="auto",
        optimizers=tuple(_branch(load(pick.space), pick) for pick in picks),
        schedules=schedules,
        training=_training(home, facts),
        groups=home.groups,
        description=f"Chosen for {plan.words}",
        group_fields=home.group_fields,
    )
    chosen = with_room(chosen, total_steps) if plan.is_from_scratch else chosen
    moved = for_length(chosen, total_steps)
    moved = for_fine_tuning(moved, total_steps) if plan.home == "finetune" else moved
    begun, begins = with_own_values(moved, facts.own)
    why_length = tuple(_why_length(chosen, moved, begun, total_steps))
    if facts.own is not None:
        begun = replace(begun, optimizers=(*begun.optimizers, own_branch(facts.own, budget)))
    space, held = for_budget(begun, budget)
    notes = (
        f"The module is {plan.words}.",
        *_why_optimizers(picks, len(_suitable(plan, facts)), moved, budget),
        *([] if facts.own is None else [_why_own(facts.own)]),
        *begins,
        *_why_left_out(plan, facts),
        _why_schedules(schedules, home, budget),
        *why_length,
        *_why_clipping(home, chosen),
        *_why_held(held, budget),
        *filter(None, [plan.beware]),
    )
    return SettledSpace(space, notes, tuple(note for note in notes if note == TRAINED_NORMS))


def own_alone(own: OwnFacts, budget: float) -> SettledSpace:
    """Return the space of a module with several optimizers: it keeps each of them and varies its rate.

    Args:
        own: The module's own optimizers.
        budget: Cost of the search in full trainings.
    """
    branch = own_branch(own, budget)
    space = Space("auto", (branch,), (Branch(OWN),), description="The module's own optimizers, with their rates moved")
    each = ", ".join(f"{number} is {name}" for number, name in enumerate(own.names))
    notes = [f"The module has {own.count} optimizers ({own.words}): they stay, and their learning rates are moved."]
    if len(branch.names) > 1:
        notes.append(f"One factor moves all of them, further ones each against the first ({each}).")
    else:
        notes.append(
            f"A budget of {budget:g} trainings pays for one factor for all; from {EACH_FROM_BUDGET} on each has one."
        )
    return SettledSpace(space, tuple(notes))


def _why_own(own: OwnFacts) -> str:
    return (
        f"Optimizer own: {own.words} with rates up to 10 times lower or higher, further where values still improve; "
        "unmoved it is the baseline."
    )


def _picks(plan: Plan, facts: ModelFacts, total_steps: int, budget: float) -> tuple[Pick, ...]:
    fit = _suitable(plan, facts)
    if total_steps >= RACED_FROM_STEPS:
        return fit
    return fit[: _at_most(OPTIMIZERS_BELOW, budget, len(fit))]


def _suitable(plan: Plan, facts: ModelFacts) -> tuple[Pick, ...]:
    fit = tuple(
        pick
        for pick in plan.picks
        if is_suitable(find_optimizer(pick.optimizer), facts)
        and (facts.has_hidden_matrices or find_optimizer(pick.optimizer).matrices_only is None)
    )
    # SGD trains everything that has a gradient
    return fit or (WIDE_SGD,)


def is_suitable(info: OptimizerInfo, facts: ModelFacts) -> bool:
    """Return whether an optimizer can train all parameters of a module.

    Example:
        >>> from opttune.catalog.lookup import find_optimizer
        >>> is_suitable(find_optimizer("muon"), ModelFacts(1_000, has_complex=True))
        False
    """
    return (info.takes_complex or not facts.has_complex) and (info.takes_sparse or not facts.has_sparse)


def _at_most(below: tuple[tuple[int, int], ...], budget: float, most: int) -> int:
    return min([count for limit, count in below if budget < limit] + [most])


def _branch(space: Space, pick: Pick) -> Branch:
    return next(branch for branch in space.optimizers if branch.name == pick.optimizer)


def _training(home: Space, facts: ModelFacts) -> tuple[tuple[str, Field], ...]:
    if facts.has_norms or facts.has_sparse or facts.parameters == 0:
        return home.training
    return tuple((name, _never_none(field) if name == _CLIP else field) for name, field in home.training)


def _never_none(field: Field) -> Field:
    """Return a field without the choice of null."""
    if not isinstance(field, Choice) or None not in field.choices:
        return field
    choices = tuple(choice for choice in field.choices if choice is not None)
    return Fixed(choices[0]) if len(choices) == 1 else Choice(choices, source=field.source)


def _why_optimizers(picks: tuple[Pick, ...], suitable: int, space: Space, budget: float) -> Iterator[str]:
    for pick, branch in zip(picks, space.optimizers, strict=True):
        lr = branch.get("lr")
        rates = f", lr {lr.low:g} to {lr.high:g} around {lr.centre:g}" if isinstance(lr, Range) else ""
        yield f"Optimizer {pick.optimizer} (ranges of {pick.space!r}{rates}): {pick.why}."
    if picks[0] is WIDE_MUON:
        yield f"Muon is tried first: for {MUON_FIRST_FROM} to {MUON_FIRST_TO:,} steps its default is mostly the best."
    if len(picks) < suitable:
        yield f"A budget of {budget:g} trainings pays for {len(picks)} of the {suitable} suitable optimizers."


def _why_left_out(plan: Plan, facts: ModelFacts) -> Iterator[str]:
    names = [pick.optimizer for pick in plan.picks if not is_suitable(find_optimizer(pick.optimizer), facts)]
    if names:
        what = "complex parameters" if facts.has_complex else "sparse gradients"
        yield f"Left out, because the model has {what}: {', '.join(names)}."


def _why_schedules(schedules: tuple[Branch, ...], home: Space, budget: float) -> str:
    names = ", ".join(branch.name for branch in schedules)
    if len(schedules) < len(home.schedules):
        return f"Schedules: {names}, the first of space {home.name!r}; a budget of {budget:g} compares no more."
    return f"Schedules: {names}, as in space {home.name!r}."


def _why_length(before: Space, after: Space, begun: Space, total_steps: int) -> Iterator[str]:
    """Say what the length has moved, except where the search begins with the module's own values."""
    moved = [
        (name, f"{old.name} at {now.centre:g} instead of {was.centre:g}")
        for old, new, first in zip(before.optimizers, after.optimizers, begun.optimizers, strict=True)
        for (name, was), (_, now), (_, start) in zip(old.fields, new.fields, first.fields, strict=True)
        if was.centre != now.centre == start.centre
    ]
    if rates := [words for name, words in moved if name == "lr"]:
        yield f"Learning rates start higher, because {total_steps:,} steps are few: {', '.join(rates)}."
    if others := [f"{name} of {words}" for name, words in moved if name != "lr"]:
        yield f"For the same reason other fields start elsewhere: {', '.join(others)}."


def _why_clipping(home: Space, space: Space) -> Iterator[str]:
    if home.training != space.training:
        yield "Gradients are always clipped: without norms, one bad batch can throw the weights far off."


def _why_held(held: tuple[Held, ...], budget: float) -> Iterator[str]:
    if held:
        names = dict.fromkeys(one.name.rpartition(".")[2] for one in held)
        yield f"A budget of {budget:g} trainings is too small to vary {', '.join(names)}: they stay at their centres."
