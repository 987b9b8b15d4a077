"""Options that many optimizers share, with the sources of their search ranges."""

from opttune.catalog.info import Ends, OptionInfo
from opttune.catalog.ranges import Search, SearchChoices, SearchRange

ALGOPERF = "AlgoPerf, tuning_search_space.json of mlcommons/algorithmic-efficiency's archived_paper_baselines"
ALGOPERF_WINNERS = "AlgoPerf, target_setting_algorithms: tuned values from 0.63 to 0.999"
MARIN = "marin optimizer sweeps, exp725_*_130M_*.py, behind arxiv.org/abs/2509.02046"
PLAYBOOK = "Deep Learning Tuning Playbook, github.com/google-research/tuning_playbook"
SHORT_RUNS = "three small tasks of 300 steps, measured: 1e-2 to 3e-2 beat 1e-3 by far"

DECOUPLED = "share of the weights removed per step, times lr (decoupled)"
COUPLED = "L2 penalty, added to the gradient"


def lr(
    default: float, low: float, high: float, centre: float, source: str, short_centre: float | None = None
) -> OptionInfo:
    """Return the learning rate, searched on a logarithmic scale with every budget."""
    search = SearchRange(low, high, centre, "log", source, from_budget=0, short_centre=short_centre)
    return OptionInfo("lr", default, low=0, excluded="low", search=(search,), help="peak learning rate")


def adam_like_lr(default: float, source: str) -> OptionInfo:
    """Return the learning rate of an optimizer that uses AdamW's range."""
    return lr(default, 1e-5, 1e-1, default, f"{source}; {SHORT_RUNS}", short_centre=max(default, 1e-2))


def fixed_lr(default: float, help: str) -> OptionInfo:
    """Return a learning rate that is not searched."""
    return OptionInfo("lr", default, low=0, excluded="low", help=help)


def betas(
    *default: float, search: tuple[Search | None, ...] = (), excluded_low: bool = False, name: str = "betas"
) -> OptionInfo:
    """Return the decay rates of the running averages, searched in Adam's ranges unless `search` is given."""
    ends: Ends = "both" if excluded_low else "high"
    help = "decay rates of the running averages"
    return OptionInfo(name, default, "floats", 0, 1, ends, search=search or adam_beta_ranges(*default), help=help)


def adam_beta_ranges(beta1: float, beta2: float, *rest: float) -> tuple[Search | None, ...]:
    """Return the search ranges of beta1 and beta2 of an Adam-like optimizer."""
    return (
        SearchRange(0.5, 0.98, beta1, "log_of_one_minus", f"{ALGOPERF}: 1 - beta1 from 0.02 to 0.5", from_budget=10),
        SearchRange(0.7, 0.9999, beta2, "log_of_one_minus", ALGOPERF_WINNERS),
        *(None for _ in rest),
    )


def decoupled_decay(
    default: float, high: float = 1.0, centre: float | None = None, source: str = f"{ALGOPERF}: 5e-3 to 1"
) -> OptionInfo:
    """Return decoupled weight decay, searched on a logarithmic scale, with 0 as a further value."""
    return _decay(default, 1e-4, high, centre or default or 1e-2, source, DECOUPLED)


def coupled_decay(
    default: float, source: str = f"{ALGOPERF}: 1e-7 to 5e-5 for momentum; 1e-4 to 5e-4 in ImageNet and CIFAR recipes"
) -> OptionInfo:
    """Return an L2 penalty, searched on a logarithmic scale, with 0 as a further value."""
    return _decay(default, 1e-7, 1e-2, default or 1e-4, source, COUPLED)


def _decay(default: float, low: float, high: float, centre: float, source: str, help: str) -> OptionInfo:
    search = SearchRange(low, high, centre, "log", source, from_budget=10, also=(0.0,))
    is_decoupled = help == DECOUPLED
    return OptionInfo("weight_decay", default, low=0, search=(search,), help=help, decoupled=is_decoupled)


def eps(default: float, search: bool = True) -> OptionInfo:
    """Return the term added to the denominator; large values turn Adam into momentum."""
    source = f"{PLAYBOOK}: eps only with 25 trials or more, together with lr"
    ranges = (SearchRange(1e-10, 1e-3, default, "log", source),) if search else ()
    return OptionInfo("eps", default, low=0, search=ranges, help="added to the denominator")


def momentum(
    default: float,
    search: bool = True,
    excluded_low: bool = False,
    source: str = f"{ALGOPERF}: 1 - momentum from 5e-3 to 0.3",
    short_centre: float | None = None,
) -> OptionInfo:
    """Return momentum, the share of the last update that is kept."""
    centre = default or 0.9
    range_ = SearchRange(0.7, 0.995, centre, "log_of_one_minus", source, 10, also=(0.0,), short_centre=short_centre)
    ranges = (range_,) if search else ()
    ends: Ends = "both" if excluded_low else "high"
    return OptionInfo(
        "momentum", default, low=0, high=1, excluded=ends, search=ranges, help="share of the last update kept"
    )


def switch(name: str, default: bool, help: str, source: str = "", needs: str = "") -> OptionInfo:
    """Return an option that is on or off; it is searched if it has a source."""
    search = (SearchChoices((False, True), default, source),) if source else ()
    return OptionInfo(name, default, "bool", needs=needs, search=search, help=help)
