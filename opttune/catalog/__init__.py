"""The catalog: one frozen row for each optimizer and each schedule.

To add one, add a row, or call `register_optimizer` or `register_schedule`. The spaces, the command's listings and
the contract tests pick it up.
"""

from opttune.catalog.check import check_recipe
from opttune.catalog.info import MatricesOnly, OptimizerInfo, OptionInfo, ScheduleInfo
from opttune.catalog.lookup import (
    find_optimizer,
    find_schedule,
    optimizer_names,
    register_optimizer,
    register_schedule,
    schedule_names,
)
from opttune.catalog.ranges import SearchChoices, SearchRange

__all__ = [
    "MatricesOnly",
    "OptimizerInfo",
    "OptionInfo",
    "ScheduleInfo",
    "SearchChoices",
    "SearchRange",
    "check_recipe",
    "find_optimizer",
    "find_schedule",
    "optimizer_names",
    "register_optimizer",
    "register_schedule",
    "schedule_names",
]
