"""Tables of spaces, optimizers and schedules, for the terminal and as JSON."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from opttune.catalog.info import Info, OptimizerInfo, OptionInfo
from opttune.catalog.lookup import find_optimizer, find_schedule, optimizer_names, schedule_names
from opttune.catalog.ranges import SHORT_STEPS, Search
from opttune.catalog.recorded_costs import recorded_costs
from opttune.space.model import GROUPS, Choice, Field, Fixed, Range, Space
from opttune.space.parse import load_space, space_names

Row = dict[str, Any]

SCALES = {"linear": "", "log": " log", "log_of_one_minus": " log of 1 - x"}
QUIRKS = {
    "takes_model": "it takes the module itself and makes its own groups",
    "one_lr": "it works with one learning rate for all parameters; groups with different rates are refused",
    "fixed_lr": "it finds the step size itself, so lr is not searched",
    "own_schedule": "it replaces a schedule; after the warmup the rate should stay constant",
    "own_clipping": "it bounds its gradients or updates itself, so clipping by norm is turned off",
    "needs_eval_mode_switch": "its modes are switched around validation, checkpoints and the end of the training",
    "needs_create_graph": "it differentiates the gradients, so the backward pass keeps their graph",
    "weights_only_unsafe": "its state contains Python objects; torch.load(weights_only=True) refuses it",
    "takes_sparse": "it takes sparse gradients; weights that have them get no decay",
    "is_own": "it is the module's own object; nothing is built",
    "follows_monitor": "it follows the monitored metric instead of a curve",
}
"""Field of a row -> its consequence, if the field is set."""


def space_rows() -> list[Row]:
    """Return a row for each shipped space."""
    spaces = [load_space(name) for name in space_names()]
    return [
        {
            "space": space.name,
            "optimizers": ", ".join(branch.name for branch in space.optimizers),
            "schedules": ", ".join(branch.name for branch in space.schedules),
            "for": space.description,
        }
        for space in spaces
    ]


def catalog_rows(kind: str) -> list[Row]:
    """Return a row for each of the `optimizers` or `schedules`."""
    if kind == "optimizers":
        return [_catalog_row(find_optimizer(name)) for name in optimizer_names()]
    return [_catalog_row(find_schedule(name)) for name in schedule_names()]


def _catalog_row(info: Info) -> Row:
    own: Row = {}
    if isinstance(info, OptimizerInfo):
        measured = {"step_cost": recorded(info.name, "ratio"), "peak_memory": recorded(info.name, "memory")}
        own = {"state_bytes": info.state_bytes, **measured, "extra": info.extra}
    options = ", ".join(option.name for option in info.options)
    return {"name": info.name, "what": info.summary, **own, "options": options, "source": info.source}


def recorded(name: str, figure: Literal["ratio", "memory"]) -> dict[str, float]:
    """Return device -> an optimizer's time or peak memory of a training step, relative to AdamW's.

    Example:
        >>> "cpu" in recorded("adamw", "ratio"), recorded("own", "memory")
        (True, {})
    """
    return {table.device: getattr(table.costs[name], figure) for table in recorded_costs() if name in table.costs}


def catalog_entry(kind: str, name: str) -> Row:
    """Return the catalog's entry for an optimizer or a schedule.

    Args:
        kind: `optimizers` or `schedules`.
        name: Its name.

    Returns:
        Its facts by name, and a row for each of its `options`, ready for JSON.

    Raises:
        UnknownNameError: There is no such name; the message gives the nearest name.

    Example:
        >>> entry = catalog_entry("optimizers", "lion")
        >>> entry["state_bytes"], entry["options"][0]["search"][0]["scale"]
        (4.0, 'log')
    """
    info = find_optimizer(name) if kind == "optimizers" else find_schedule(name)
    return {
        "name": info.name,
        "summary": info.summary,
        **(_optimizer_facts(info) if isinstance(info, OptimizerInfo) else {"formula": _path(info.shape)}),
        "source": info.source,
        "advice": info.advice,
        "quirks": _quirks(info),
        "options": [_option_row(option) for option in info.options],
    }


def _optimizer_facts(info: OptimizerInfo) -> Row:
    return {
        "class": _path(info.class_path),
        "code": info.code,
        "fixed": dict(info.fixed),
        "state_bytes": info.state_bytes,
        "step_cost": [words for table in recorded_costs() if (words := table.cost_words(info.name))],
        "extra": info.extra,
    }


def _path(place: Any) -> str:
    return place if isinstance(place, str) else f"{place.__module__}.{place.__qualname__}"


def _quirks(info: Info) -> dict[str, str]:
    """Return the quirks that are set: field of the row -> its consequence."""
    quirks = {field: words for field, words in QUIRKS.items() if getattr(info, field, False)}
    if isinstance(info, OptimizerInfo) and info.matrices_only is not None:
        quirks["matrices_only"] = "it trains only matrices; AdamW trains the other parameters, in the same optimizer"
    if isinstance(info, OptimizerInfo) and info.total_steps_option:
        quirks["total_steps_option"] = f"its {info.total_steps_option} is the full length of the training"
    return quirks


def _option_row(option: OptionInfo) -> Row:
    return {
        "option": option.name,
        "default": _plain(option.default),
        "allowed": ", ".join(option.choices) or ("" if option.kind == "bool" else option.range_words),
        "what": option.help,
        "search": [{"field": field, **_search_row(search)} for field, search in option.searchable.items()],
    }


def _search_row(search: Search) -> Row:
    return {field.name: _plain(getattr(search, field.name)) for field in fields(search)}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def print_entry(entry: Row, as_json: bool) -> None:
    """Print a row of the catalog to standard output: its facts, its options and their search ranges."""
    if as_json:
        print(json.dumps(entry))
        return
    console = Console()
    console.print(f"{entry['name']}: {entry['summary']}", markup=False, highlight=False)
    facts = Table(show_header=False, box=None)
    facts.add_column(no_wrap=True)
    facts.add_column(overflow="fold")
    for name, words in _facts(entry):
        facts.add_row(Text(name), Text(words))
    console.print(facts)
    print_rows([{name: row[name] for name in row if name != "search"} for row in entry["options"]], as_json=False)
    searched = [_searched(search) for row in entry["options"] for search in row["search"]]
    console.print("Search ranges:" if searched else "None of its options is searched.")
    if searched:
        print_rows(searched, as_json=False)


def _facts(entry: Row) -> Iterator[tuple[str, str]]:
    """Yield the facts that have a value, in words."""
    for name, value in entry.items():
        if name in ("name", "summary", "options") or value in ("", None, {}, []):
            continue
        match name:
            case "quirks":
                yield from ((quirk.replace("_", " "), words) for quirk, words in value.items())
            case "fixed":
                yield name, ", ".join(f"{key}={each}" for key, each in value.items())
            case "state_bytes":
                yield "state", f"{value:g} bytes per parameter in float32"
            case "step_cost":
                yield from (("step", words) for words in value)
            case "extra":
                yield name, f"pip install 'opttune[{value}]'"
            case _:
                yield name, value


def _searched(search: Row) -> Row:
    if "values" in search:
        where = " | ".join(_number(value) for value in search["values"])
    else:
        where = f"{search['low']:g} .. {search['high']:g}{SCALES[search['scale']]}"
        where += "".join(f", or {_number(value)}" for value in search["also"])
    centre = _number(search["centre"])
    if search.get("short_centre") is not None:
        centre += f" ({_number(search['short_centre'])} for {SHORT_STEPS} steps)"
    least = search["from_budget"]
    return {
        "field": search["field"],
        "range": where,
        "centre": centre,
        "varies": f"from {least} trainings on" if least else "always",
        "source": search["source"],
    }


def print_rows(rows: Sequence[Row], as_json: bool) -> None:
    """Print rows to standard output."""
    if as_json:
        print(json.dumps(list(rows)))
        return
    table = Table()
    for name in rows[0] if rows else ():
        table.add_column(name.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row.values()))
    Console().print(table)


def print_cost_notes() -> None:
    """Explain the costs in the list of optimizers on standard output."""
    console = Console()
    console.print(
        "step cost, peak memory: those of a training step relative to AdamW's. They differ between models and devices."
    )
    for table in recorded_costs():
        console.print(table.words, markup=False, highlight=False)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{each:.3g} ({name.upper()})" for name, each in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def print_space(space: Space, as_json: bool) -> None:
    """Print a space to standard output, a row for each field, with its source."""
    if as_json:
        print(json.dumps(space.to_dict()))
        return
    fields = [
        *((f"{branch.name}.{name}", field) for branch in space.optimizers for name, field in branch.fields),
        *((f"{branch.name}.{name}", field) for branch in space.schedules for name, field in branch.fields),
        *space.training,
        *((_group_name(space, name), field) for name, field in space.group_fields),
    ]
    Console().print(f"{space.name}: {space.description}", markup=False, highlight=False, soft_wrap=True)
    rows = [
        {"field": name, "range": _range(field), "starts at": f"{_number(field.centre)}", "source": _source(field)}
        for name, field in fields
    ]
    print_rows(rows, as_json=False)
    if not any(space.parameters()):
        print("Nothing varies, so there is only one training to try.")


def _group_name(space: Space, name: str) -> str:
    """Return the full name of a field of the groups, with the expression of its rule."""
    index, _ = space.groups.rule_fields.get(name, (None, ""))
    return f"{GROUPS}.{name}" + ("" if index is None else f" ({space.groups.rules[index].match})")


def _range(field: Field) -> str:
    match field:
        case Range():
            return f"{field.low:g} .. {field.high:g}{SCALES[field.scale]}"
        case Choice():
            return " | ".join(_number(choice) for choice in field.choices)
        case Fixed():
            return _number(field.value)


def _source(field: Field) -> str:
    return "" if isinstance(field, Fixed) else field.source


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else "null" if value is None else str(value)
