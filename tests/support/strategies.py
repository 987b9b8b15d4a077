"""What hypothesis draws: plain values, and spaces made of the rows of the catalog."""

from hypothesis import settings
from hypothesis import strategies as st

from opttune.catalog.info import Info, OptionInfo
from opttune.catalog.lookup import find_optimizer, find_schedule, optimizer_names, schedule_names
from opttune.catalog.training import GROUP_OPTIONS, RULE_OPTIONS, TRAINING_OPTIONS
from opttune.recipe import OWN, Groups, Rule
from opttune.recipe_groups import RULE_FIELDS
from opttune.space.model import Branch, Choice, Field, FieldError, Fixed, Range, Space
from opttune.space.parse import LR_TIMES_WEIGHT_DECAY

# the same examples each time: a test that fails now and then says nothing
FAST = settings(max_examples=100, deadline=None, derandomize=True)

finite = st.floats(allow_nan=False, allow_infinity=False)
# what the YAML readers of this world take for numbers, dates, booleans or signs of their own
_LOOKALIKES = ["1e-4", "1E-3", "1e4", "0x10", "010", "1_000", "1:30", "+5", ".inf", ".nan", "2024-01-31"]
_LOOKALIKES += ["on", "yes", "no", "true", "null", "~", "", "<<", "=", "---", "a\n...\nb", "a: b", "- a", "# a", " a "]
_LOOKALIKES += ["'", '"', "*a", "&a", "!a", "%a"]
texts = st.text(max_size=20) | st.sampled_from(_LOOKALIKES)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts | st.just(10**400)
plain_data = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=10
)

RULES = (r"^backbone\.", "backbone", "head|tail", "[.]", "é")
SCALES = ("linear", "log", "log_of_one_minus")


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    optimizers = draw(st.lists(st.sampled_from(optimizer_names()), min_size=1, max_size=3, unique=True))
    schedules = draw(
        st.lists(
            st.sampled_from([name for name in schedule_names() if name != OWN]), min_size=1, max_size=3, unique=True
        )
    )
    training = draw(st.lists(st.sampled_from(TRAINING_OPTIONS), unique_by=lambda option: option.name))
    rules = tuple(Rule(match) for match in draw(st.lists(st.sampled_from(RULES), max_size=3, unique=True)))
    groups = Groups(draw(st.booleans()), rules=rules)
    return Space(
        "drawn",
        tuple(draw(branches(find_optimizer(name))) for name in optimizers),
        tuple(draw(branches(find_schedule(name))) for name in schedules),
        tuple((option.name, draw(fields(option))) for option in training),
        groups,
        draw(texts),
        draw(group_fields(groups)),
    )


@st.composite
def group_fields(draw: st.DrawFn, groups: Groups) -> tuple[tuple[str, Field], ...]:
    """Draw what varies of groups, in the order in which a file is read."""
    options = {option.name: option for option in GROUP_OPTIONS if option.name != "no_decay_norm_bias"}
    of_rules = {option.name: option for option in RULE_OPTIONS}
    options |= {name: of_rules[rule_field(name)] for name in groups.rule_fields}
    drawn = ((name, draw(fields(option))) for name, option in options.items() if draw(st.booleans()))
    return tuple((name, field) for name, field in drawn if not isinstance(field, Fixed))


def rule_field(name: str) -> str:
    """Return the key in a rule for a field of a rule."""
    return next(key for key in RULE_FIELDS if name.startswith(f"{key}_"))


@st.composite
def branches(draw: st.DrawFn, info: Info) -> Branch:
    options = {name: option for option in info.options for name in option.fields}
    names = draw(st.lists(st.sampled_from(list(options)), unique=True))
    drawn = {name: draw(fields(options[name])) for name in names}
    for name in names:
        if options[name].needs:
            drawn[options[name].needs] = Fixed(0.9)
    if "weight_decay" in drawn and draw(st.booleans()):
        del drawn["weight_decay"]
        drawn[LR_TIMES_WEIGHT_DECAY] = Range(1e-9, 1e-4, "log")
        drawn["lr"] = Range(1e-5, 1e-1, "log")
    return Branch(info.name, tuple(drawn.items()))


def fields(option: OptionInfo) -> st.SearchStrategy[Field]:
    values = _values(option)
    plain = values | st.none() if option.optional else values
    source = texts
    choices = st.lists(plain, min_size=1, max_size=4, unique=True).flatmap(
        lambda items: st.builds(Choice, st.just(tuple(items)), st.integers(0, len(items) - 1), source)
    )
    found = st.builds(Fixed, plain) | choices
    return found | ranges(option) if option.kind in ("float", "floats", "int") else found


@st.composite
def ranges(draw: st.DrawFn, option: OptionInfo) -> Range:
    low, high = sorted(draw(st.lists(_values(option), min_size=2, max_size=2, unique=True)))
    scale = draw(st.sampled_from(SCALES))
    integer = option.kind == "int"
    try:
        made = Range(low, high, scale, integer, source=draw(texts))
    except FieldError:  # the scale cannot hold it
        made = Range(low, high, "linear", integer)
    prior = draw(st.none() | st.floats(0, 1).map(made.at))
    return Range(made.low, made.high, made.scale, integer, prior, made.source)


def _values(option: OptionInfo) -> st.SearchStrategy:
    match option.kind:
        case "bool":
            return st.booleans()
        case "text":
            return st.sampled_from(option.choices) if option.choices else texts
        case "int":
            least = 0 if option.low is None else int(option.low) + (option.excluded in ("low", "both"))
            most = 2**40 if option.high is None else int(option.high) - (option.excluded in ("high", "both"))
            return st.integers(least, most)
    low, high = option.low, option.high
    return st.floats(
        -1e3 if low is None else low,
        1e3 if high is None else high,
        exclude_min=option.excluded in ("low", "both"),
        exclude_max=option.excluded in ("high", "both"),
    )
