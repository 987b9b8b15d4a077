"""The row of a module's own optimizer, and one row for several optimizers of a module."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from opttune.catalog.info import OptimizerInfo, OptionInfo, ScheduleInfo
from opttune.catalog.ranges import SearchRange
from opttune.recipe import OWN, join_names, numbered

_AROUND = "opttune's own: a module's authors are mostly right within a factor of 10"


def _horizon(name: str, what: str, from_budget: int) -> OptionInfo:
    search = SearchRange(0.2, 5.0, 1.0, "log", _AROUND, from_budget)
    help = f"factor on 1 / (1 - {what}), the memory of its average in steps"
    return OptionInfo(name, 1.0, low=0, excluded="low", search=(search,), help=help)


OWN_OPTIMIZER = OptimizerInfo(
    name=OWN,
    class_path="",
    summary="the module's own optimizer, unchanged or with its rates moved",
    options=(
        OptionInfo(
            "lr_factor",
            1.0,
            low=0,
            excluded="low",
            search=(SearchRange(0.1, 10.0, 1.0, "log", _AROUND, from_budget=0),),
            help="factor on the learning rate of each group, at every step",
        ),
        OptionInfo(
            "weight_decay_factor",
            1.0,
            low=0,
            search=(SearchRange(0.1, 10.0, 1.0, "log", _AROUND, from_budget=10),),
            help="factor on the weight decay of each group",
        ),
        _horizon("beta1_horizon_factor", "beta1", from_budget=10),
        _horizon("beta2_horizon_factor", "beta2", from_budget=25),
        _horizon("momentum_horizon_factor", "momentum", from_budget=10),
    ),
    source="the module's configure_optimizers",
    is_own=True,
    takes_sparse=True,
    advice="With nothing moved it trains exactly like your own optimizer, to the last digit.",
)

OWN_SCHEDULE = ScheduleInfo(
    name=OWN,
    shape="",
    summary="the module's own schedulers, if it has any",
    options=(),
    source="the module's configure_optimizers",
    is_own=True,
    advice="It works only with the optimizer own.",
)


def join_rows(rows: tuple[OptimizerInfo, ...]) -> OptimizerInfo:
    """Return one row for all optimizers of a module; each option's name starts with its optimizer's number.

    Example:
        >>> [option.name for option in join_rows((OWN_OPTIMIZER, OWN_OPTIMIZER)).options][:2]
        ['0.lr_factor', '0.weight_decay_factor']
    """
    return OptimizerInfo(
        **_joined(rows),
        class_path="",
        is_own=all(row.is_own for row in rows),
        matrices_only=next((row.matrices_only for row in rows if row.matrices_only is not None), None),
        one_lr=any(row.one_lr for row in rows),
        needs_eval_mode_switch=any(row.needs_eval_mode_switch for row in rows),
        own_schedule=any(row.own_schedule for row in rows),
        own_clipping=any(row.own_clipping for row in rows),
        takes_complex=all(row.takes_complex for row in rows),
        takes_sparse=all(row.takes_sparse for row in rows),
        weights_only_unsafe=any(row.weights_only_unsafe for row in rows),
    )


def join_schedules(rows: tuple[ScheduleInfo, ...]) -> ScheduleInfo:
    """Return one row for several schedules, one schedule for each optimizer."""
    return ScheduleInfo(
        **_joined(rows),
        shape="",
        follows_monitor=any(row.follows_monitor for row in rows),
        is_own=all(row.is_own for row in rows),
    )


def _joined(rows: Sequence[OptimizerInfo | ScheduleInfo]) -> dict[str, Any]:
    """Return the fields of a joined row, for optimizers and for schedules."""
    options = [
        replace(option, name=numbered(number, option.name), needs=option.needs and numbered(number, option.needs))
        for number, row in enumerate(rows)
        for option in row.options
    ]
    return {
        "name": join_names(row.name for row in rows),
        "summary": "; ".join(f"{number}: {row.summary}" for number, row in enumerate(rows)),
        "options": tuple(options),
        "source": "; ".join(dict.fromkeys(row.source for row in rows)),
    }
