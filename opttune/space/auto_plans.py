"""What `auto` takes for which kind of module: data, and the rules that tell the kinds apart."""

from dataclasses import dataclass, replace

from opttune.space.facts import ModelFacts

SHORT_STEPS = 3_000
"""Below it a training is short: customary ranges for training from scratch do not reach the best rates."""
MUON_FIRST_FROM, MUON_FIRST_TO = 200, 1_000
"""Of so many steps a training from scratch mostly ends best with Muon's default (`benchmarks/default_recipes.py`)."""
LONG_STEPS = 10_000
"""From it on a large transformer's training counts as pretraining."""
LARGE = 50_000_000
"""From so many trained parameters on a transformer counts as large."""
HEAD_SHARE = 0.05
"""Below that trained share, without LoRA, new layers are trained on top of frozen ones."""
PRETRAINED_SHARE = 0.45
"""Below it what is frozen is taken for pretrained; a frozen copy for targets or of a teacher makes one half."""


@dataclass(frozen=True, slots=True)
class Pick:
    """An optimizer of a shipped space, and why.

    Attributes:
        space: The space.
        optimizer: Its optimizer.
        why: The end of a sentence.
    """

    space: str
    optimizer: str
    why: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to take for one kind of module.

    Attributes:
        words: What the module is.
        home: The shipped space whose schedules, clipping and groups are taken.
        picks: Optimizers, the surest first.
        beware: A sentence on what could be wrong; empty where there is none.
        is_from_scratch: Whether all that is trained starts from chance, so that rates may be as high as they can.
    """

    words: str
    home: str
    picks: tuple[Pick, ...]
    beware: str = ""
    is_from_scratch: bool = True


WIDE_ADAMW = Pick("wide", "adamw", "the customary choice, in a range that holds short and long trainings")
WIDE_SGD = Pick("wide", "sgd", "with momentum it is often the best for small networks, and the cheapest")
WIDE_MUON = Pick("wide", "muon", "among the strongest for hidden matrices at equal steps (arxiv.org/abs/2509.02046)")
WIDE_NADAMW = Pick("wide", "nadamw", "a hair better than AdamW in recorded sweeps of 300 steps")
WIDE_LION = Pick("wide", "lion", "steps of equal size, which none of the others takes")
CONV_SGD = Pick("sgd", "sgd", "convolutional networks with norms were made for it")

LORA = Plan(
    "a frozen network with LoRA matrices",
    "lora",
    (Pick("lora", "adamw", "LoRA's recipes are AdamW's, at ten times the rate of full fine-tuning"),),
    is_from_scratch=False,
)
PRETRAINED = Plan(
    "a pretrained network that is trained further",
    "finetune",
    (
        Pick("finetune", "adamw", "small rates keep what the network has learned"),
        Pick("lion", "lion", "half of AdamW's memory, at rates 3 to 10 times below"),
    ),
    is_from_scratch=False,
)
HEAD = Plan(
    "new layers on top of a frozen network",
    "small_data",
    (
        Pick("small_data", "adamw", "the new layers start from scratch, so rates are not fine-tuning's"),
        Pick("small_data", "sgd", "few weights on fixed features are an easy problem for momentum"),
    ),
    is_from_scratch=False,
)
RECURRENT = Plan(
    "a recurrent network",
    "rnn",
    (
        Pick("rnn", "adam", "it copes best with gradients that differ by orders of magnitude over time"),
        Pick("rnn", "sgd", "with clipping it has held the records of LSTM language models"),
        Pick("rnn", "rmsprop", "the older custom for recurrent networks"),
    ),
)
PRETRAINING = Plan(
    "a large transformer, trained from scratch for long",
    "adamw_pretrain",
    (
        Pick("adamw_pretrain", "adamw", "what language models are pretrained with"),
        Pick("muon", "muon", "among the strongest for hidden matrices at equal steps (arxiv.org/abs/2509.02046)"),
        WIDE_LION,
        Pick("soap", "soap", "like Muon among the strongest per step, for several times AdamW's memory"),
    ),
)
VISION_TRANSFORMER = Plan(
    "a vision transformer (attention and convolutions, no embedding table)",
    "vision_adamw",
    (
        Pick("vision_adamw", "adamw", "what vision transformers are trained with"),
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
    "a network whose layers are only made once it trains, so that nothing is known of it",
    "wide",
    (WIDE_ADAMW, WIDE_SGD, WIDE_NADAMW, WIDE_LION),
)
MAYBE_PRETRAINED = (
    "Whether the weights are pretrained does not show; if they are, search space 'finetune', whose rates are lower."
)


def plan_for(facts: ModelFacts, total_steps: int) -> Plan:
    """Return the plan for a module: the first kind that it is.

    Example:
        >>> plan_for(ModelFacts(1_000_000, is_recurrent=True), total_steps=1_000).home
        'rnn'
    """
    plan = _kind(facts, total_steps)
    words = plan.words.format(trainable=facts.trainable)
    # LoRA, heads and what names its origin leave no doubt
    may_be_pretrained = facts.has_attention and plan.is_from_scratch
    return replace(plan, words=words, beware=MAYBE_PRETRAINED if may_be_pretrained else "")


def in_order(plan: Plan, picks: tuple[Pick, ...], total_steps: int) -> tuple[Pick, ...]:
    """Return the optimizers of a plan in the order in which their default recipes are tried.

    Args:
        plan: The plan.
        picks: Those of its optimizers that are searched.
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
    if facts.looks_pretrained or facts.trainable_share < PRETRAINED_SHARE:
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
