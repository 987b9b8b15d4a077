"""`opttune spaces`, `opttune optimizers`, `opttune schedules`: list and show spaces and the catalog."""

import argparse
import json
from typing import Any

from opttune.cli.command import DONE, Run, add_command
from opttune.errors import InputError


def add_catalog(commands: Any) -> None:
    """Add the three commands."""
    _add_spaces(commands)
    _add_kind(commands, "optimizers", _run_catalog)
    schedules = _add_kind(commands, "schedules", _run_schedules)
    schedules.add_argument("--plot", metavar="FILE", help="draw the curve of NAME, or all curves, into an image file")
    schedules.add_argument("--steps", type=int, metavar="N", help="steps of the drawn training (default: 1000)")


def _add_kind(commands: Any, kind: str, run: Run) -> argparse.ArgumentParser:
    command = add_command(commands, kind, f"list the {kind} of the catalog, or show one", run)
    command.add_argument("name", nargs="?", metavar="NAME", help=f"show one of the {kind}")
    return command


def _add_spaces(commands: Any) -> None:
    spaces = commands.add_parser("spaces", help="list, show or check search spaces")
    actions = spaces.add_subparsers(dest="action", required=True, metavar="ACTION")
    add_command(actions, "list", "list the shipped spaces", _run_spaces_list)
    show = add_command(actions, "show", "show a space with its sources", _run_spaces_show)
    show.add_argument("name", metavar="NAME", help="name or file of a space")
    check = add_command(actions, "check", "check a space file", _run_spaces_show)
    check.add_argument("name", metavar="FILE", help="a space file")


def _run_spaces_list(options: argparse.Namespace) -> int:
    from opttune.cli.listing import print_rows, space_rows

    print_rows(space_rows(), as_json=options.json)
    return DONE


def _run_spaces_show(options: argparse.Namespace) -> int:
    from opttune.cli.listing import print_space
    from opttune.space.parse import load_space

    print_space(load_space(options.name), as_json=options.json)
    return DONE


def _run_catalog(options: argparse.Namespace) -> int:
    from opttune.cli.listing import catalog_entry, catalog_rows, print_cost_notes, print_entry, print_rows

    if options.name is None:
        print_rows(catalog_rows(options.command), as_json=options.json)
        if options.command == "optimizers" and not options.json:
            print_cost_notes()
    else:
        print_entry(catalog_entry(options.command, options.name), as_json=options.json)
    return DONE


def _run_schedules(options: argparse.Namespace) -> int:
    if options.plot is None:
        if options.steps is not None:
            raise InputError("--steps is the length of a drawn training: give --plot FILE as well.")
        return _run_catalog(options)
    # this imports torch and vl-convert
    from opttune.cli.plots import DEFAULT_STEPS, plot_all_schedules, plot_schedule

    steps = DEFAULT_STEPS if options.steps is None else options.steps
    if options.name is None:
        plot_all_schedules(options.plot, steps)
    else:
        plot_schedule(options.name, options.plot, steps)
    print(json.dumps({"plot": options.plot}) if options.json else f"wrote {options.plot}")
    return DONE
