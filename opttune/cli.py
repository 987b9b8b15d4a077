"""The command `opttune`: arguments in, exit code out.

Exit codes: 0 done, 1 no trial came through, 2 bad input, 130 stopped by Ctrl-C. What a command needs is
imported when it runs, so that `opttune --help` is quick.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from typing import Any, NoReturn

from opttune.errors import InputError, OpttuneError
from opttune.version import __version__

DONE, NO_TRIAL, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: What stands behind `opttune`; None takes the process's own.

    Returns:
        The exit code.
    """
    options = _make_parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except OpttuneError as err:
        if options.debug:
            raise
        print(f"opttune: {err}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("opttune: stopped. Nothing finished is lost; the same command goes on from here.", file=sys.stderr)
        return INTERRUPTED
    return code


def run() -> NoReturn:
    """Run the command and end the process with its exit code."""
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    if code == INTERRUPTED:
        # where Ctrl-C came while a C library ran Python code, the interpreter would still die of the signal
        os._exit(code)
    sys.exit(code)


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="opttune", description="Tune the optimizer and the learning-rate schedule of any Lightning module."
    )
    parser.add_argument("--version", action="version", version=f"opttune {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_search(commands)
    _add_spaces(commands)
    _add_catalog(commands, "optimizers", _run_catalog)
    schedules = _add_catalog(commands, "schedules", _run_schedules)
    schedules.add_argument("--plot", metavar="FILE", help="draw the curve of NAME, or of all, into a picture file")
    schedules.add_argument("--steps", type=int, metavar="N", help="steps of the drawn training (default: 1000)")
    return parser


def _add_command(commands: Any, name: str, help: str, run: Any) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=help, description=f"{help[0].upper()}{help[1:]}.", allow_abbrev=False
    )
    command.add_argument("--json", action="store_true", help="print JSON on standard output")
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    command.set_defaults(run=run)
    return command


def _add_catalog(commands: Any, kind: str, run: Any) -> argparse.ArgumentParser:
    command = _add_command(commands, kind, f"list the {kind} of the catalog, or show one", run)
    command.add_argument("name", nargs="?", metavar="NAME", help=f"show one of the {kind}")
    return command


def _add_search(commands: Any) -> None:
    command = _add_command(
        commands, "search", "search the optimizer and the schedule that train a module best", _run_search
    )
    add = command.add_argument
    add("model", metavar="MODEL", help="LightningModule class, factory or instance: path/file.py:name or module:name")
    add("data", metavar="DATA", nargs="?", help="LightningDataModule, loaders, or a factory; likewise")
    add("--space", default="auto", metavar="NAME|FILE", help="what may vary (default: auto)")
    add("--monitor", default="val_loss", metavar="M", help="metric whose value at the end counts (default: val_loss)")
    add("--mode", default="min", choices=("min", "max"), help="which is better (default: min)")
    add("--max-steps", type=int, metavar="N", help="full length of one training in optimizer steps")
    add("--max-epochs", type=int, metavar="N", help="full length of one training in epochs")
    add("--budget", type=float, default=20.0, metavar="B", help="cost in full trainings (default: 20)")
    add("--trials", type=int, metavar="N", help="trials in all")
    add("--timeout", type=float, metavar="S", help="begin no training after so many seconds")
    add("--workers", type=int, default=1, metavar="W", help="trainings at a time (default: 1)")
    add("--engine", metavar="NAME", help="where trainings run: inline")
    add("--study", metavar="NAME", help="name of the study (default: <model>-<space>)")
    add("--storage", metavar="URL", help="Optuna storage (default: a journal file in the out-dir)")
    add("--tracking-uri", metavar="URI", help="MLflow (default: sqlite:///mlflow.db)")
    add("--out-dir", metavar="DIR", help="folder for the files (default: opttune_runs/<study>)")
    add("--seed", type=int, default=0, metavar="S", help="for the sampler, weights and data order (default: 0)")
    add("--trainer", nargs="+", action="extend", default=[], metavar="key=value", help="arguments of the Trainer")
    add("--warm-start", metavar="STUDY", help="begin with the best recipes of an earlier study: its name or folder")
    add("--no-baseline", action="store_true", help="do not train the module as it came")
    add("--no-guard", action="store_true", help="let diverging trainings run")
    add("--dry-run", action="store_true", help="say what would be done and train nothing")


def _add_spaces(commands: Any) -> None:
    spaces = commands.add_parser("spaces", help="list, show or check search spaces")
    actions = spaces.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_command(actions, "list", "list the spaces that ship with opttune", _run_spaces_list)
    show = _add_command(actions, "show", "show a space with its sources", _run_spaces_show)
    show.add_argument("name", metavar="NAME", help="name or file of a space")
    check = _add_command(actions, "check", "check a space file", _run_spaces_show)
    check.add_argument("name", metavar="FILE", help="a space file")


def _run_search(options: argparse.Namespace) -> int:
    # with --json, what the user's own code prints must not stand in standard output
    with redirect_stdout(sys.stderr) if options.json else nullcontext():
        plain, code = _search(options)
    if options.json:
        print(json.dumps(plain, allow_nan=False))
    return code


def _search(options: argparse.Namespace) -> tuple[dict[str, Any], int]:
    """Search, or say what a search would do, and return it for `--json` with the exit code."""
    arguments = _search_arguments(options)
    # torch, lightning and mlflow come with this import, after the cheap checks
    from opttune.api import preview, search
    from opttune.planning import make_plan
    from opttune.summary import print_preview, print_result, result_json

    if options.dry_run:
        plain = preview(*make_plan(**arguments))
        print_preview(plain)
        return plain, DONE
    places = {"storage": options.storage, "tracking_uri": options.tracking_uri, "warm_start": options.warm_start}
    result = search(**arguments, **places, progress=True)
    print_result(result, options.tracking_uri)
    return result_json(result), DONE if result.best_recipe is not None else NO_TRIAL


def _search_arguments(options: argparse.Namespace) -> dict[str, Any]:
    from opttune.references import load_reference

    trainer = _parse_trainer(options.trainer)
    model = load_reference(options.model, "MODEL")
    data = None if options.data is None else load_reference(options.data, "DATA")
    same = ("space", "monitor", "mode", "max_steps", "max_epochs", "budget", "trials", "timeout", "workers", "engine")
    return {
        "model": model,
        "data": data,
        **{name: getattr(options, name) for name in (*same, "study", "out_dir", "seed")},
        "guard": False if options.no_guard else None,
        "baseline": not options.no_baseline,
        "trainer": trainer,
    }


def _parse_trainer(pairs: Sequence[str]) -> dict[str, Any]:
    from opttune.yaml_text import YamlTextError, read_yaml

    trainer: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise InputError(f"--trainer takes key=value, such as accelerator=cpu, got {pair!r}.")
        try:
            trainer[key.replace("-", "_")] = read_yaml(text).data
        except YamlTextError:
            trainer[key.replace("-", "_")] = text
    return trainer


def _run_spaces_list(options: argparse.Namespace) -> int:
    from opttune.listing import print_rows, space_rows

    print_rows(space_rows(), as_json=options.json)
    return DONE


def _run_spaces_show(options: argparse.Namespace) -> int:
    from opttune.listing import print_space
    from opttune.space.parse import load_space

    print_space(load_space(options.name), as_json=options.json)
    return DONE


def _run_catalog(options: argparse.Namespace) -> int:
    from opttune.listing import catalog_entry, catalog_rows, print_entry, print_rows

    if options.name is None:
        print_rows(catalog_rows(options.command), as_json=options.json)
    else:
        print_entry(catalog_entry(options.command, options.name), as_json=options.json)
    return DONE


def _run_schedules(options: argparse.Namespace) -> int:
    if options.plot is None:
        if options.steps is not None:
            raise InputError("--steps is the length of a drawn training: give --plot FILE as well.")
        return _run_catalog(options)
    # matplotlib and torch come with this import
    from opttune.plots import DEFAULT_STEPS, plot_all_schedules, plot_schedule

    steps = DEFAULT_STEPS if options.steps is None else options.steps
    if options.name is None:
        plot_all_schedules(options.plot, steps)
    else:
        plot_schedule(options.name, options.plot, steps)
    print(json.dumps({"plot": options.plot}) if options.json else f"wrote {options.plot}")
    return DONE


if __name__ == "__main__":
    run()
