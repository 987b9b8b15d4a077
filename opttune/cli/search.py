"""`opttune search`: find the best optimizer and learning-rate schedule of a module."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from opttune.cli.command import DONE, NO_TRIAL, add_command, raise_if_interrupted
from opttune.cli.project import add_project, read_project
from opttune.errors import InputError


def add_search(commands: Any) -> None:
    """Add the command."""
    command = add_command(
        commands, "search", "find the best optimizer and learning-rate schedule of a module", _run_search
    )
    add = command.add_argument
    add("model", metavar="MODEL", nargs="?",
        help="LightningModule class, factory or instance: path/file.py:name or package.module:name")  # fmt: skip
    add("data", metavar="DATA", nargs="?", help="LightningDataModule, loaders, or a factory, in the same form")
    add_project(command)
    add("--space", default="auto", metavar="NAME|FILE", help="space to search (default: auto)")
    add("--monitor", metavar="M", help="metric to optimize: its value at the end of a training (default: val_loss)")
    add("--mode", choices=("min", "max"), help="whether lower or higher is better (default: min)")
    add("--max-steps", type=int, metavar="N", help="full length of one training in optimizer steps")
    add("--max-epochs", type=int, metavar="N", help="full length of one training in epochs")
    add("--budget", type=float, default=20.0, metavar="B", help="cost in full trainings (default: 20)")
    add("--budget-unit", choices=("steps", "time"), default="steps",
        help="unit in which all full trainings are equal: steps (default), or time (costly optimizers train fewer "
        "steps)")  # fmt: skip
    add("--trials", type=int, metavar="N", help="total number of trials (default: no limit)")
    add("--timeout", type=float, metavar="S", help="start no training after S seconds")
    add("--workers", type=int, default=1, metavar="W", help="trainings at a time (default: 1)")
    add("--engine", default="local", metavar="NAME",
        help="where trainings run: local (worker processes, default), inline (this process), ray")  # fmt: skip
    add("--ray-address", metavar="HOST:PORT", help="a running Ray cluster (default: RAY_ADDRESS, else one here)")
    add("--study", metavar="NAME", help="name of the study (default: <model>-<space>)")
    add("--storage", metavar="URL", help="Optuna storage (default: a journal file in the out-dir)")
    add("--tracking-uri", metavar="URI", help="MLflow (default: sqlite:///mlflow.db)")
    add("--out-dir", metavar="DIR", help="folder for the files (default: opttune_runs/<study>)")
    add("--seed", type=int, metavar="S", help="seed of the sampler, weights and data order (default: 0)")
    add("--trainer", nargs="+", action="extend", default=[], metavar="key=value", help="arguments of the Trainer")
    add("--warm-start", metavar="STUDY", help="start with the best recipes of an earlier study: its name or folder")
    add("--learn-from", metavar="EXPERIMENT|CSV",
        help="start with the best of earlier trainings: an MLflow experiment, or a CSV file of them")  # fmt: skip
    add("--no-baseline", action="store_true", help="do not train the baseline (your own optimizer)")
    add("--baseline-run", metavar="RUN_ID|CSV",
        help="an existing curve of the baseline: an MLflow run (RUN_ID or RUN_ID:METRIC), or a CSV file of "
        "step,value; it costs no budget")  # fmt: skip
    add("--no-guard", action="store_true", help="let diverging trainings run")
    add("--no-pauses", action="store_true", help="train each trial without pauses at rungs")
    _add_outputs(add)


def _add_outputs(add: Callable[..., Any]) -> None:
    """Add the options for the output."""
    add("--no-report", action="store_true", help="write no report at the end (opttune report writes it later)")
    add("--no-thinning", action="store_true", help="write every step of curves of more than 1,000 steps to MLflow")
    add("--log-model", action="store_true", help="write the best checkpoint to MLflow")
    add("--log-data", action="store_true", help="write facts about the loaders to MLflow, as datasets")
    add("--system-metrics", action="store_true", default=None,
        help="write system metrics of this machine to MLflow (needs opttune[system])")  # fmt: skip
    add("--verbose", action="store_true", help="explain the choice of the space, and show a line for each training")
    add("--dry-run", action="store_true", help="train three steps and show the plan")


def _run_search(options: argparse.Namespace) -> int:
    # with --json, standard output has only the JSON: prints of the user's code go to standard error
    with redirect_stdout(sys.stderr) if options.json else nullcontext():
        plain, code = _search(options)
    if options.json:
        print(json.dumps(plain, allow_nan=False))
    return code


def _search(options: argparse.Namespace) -> tuple[dict[str, Any], int]:
    """Search, or show the plan of a search; return the result for `--json`, and the exit code."""
    from opttune.engines.worker_process import end_early, start_early

    _check_cheaply(options)
    if options.engine == "local" and not options.dry_run and options.workers > 0:
        start_early(options.workers)
    try:
        return _search_with(options)
    finally:
        end_early()


def _search_with(options: argparse.Namespace) -> tuple[dict[str, Any], int]:
    with _shown_while("opttune: loading torch, lightning and the module"):
        arguments = _search_arguments(options)
        # this imports torch, lightning and mlflow, after the cheap checks
        from opttune.api import run_plan
        from opttune.cli.terminal import print_preview, print_result, result_json
        from opttune.planning import make_plan
        from opttune.preview import preview
        from opttune.runtime.display import make_reporter
        from opttune.study.prior_runs import read_prior_runs
        from opttune.tracking.address import resolve_tracking_uri

        raise_if_interrupted()
        config, workload = make_plan(**arguments)
    if options.dry_run:
        named = {name: getattr(options, name) for name in ("storage", "warm_start", "baseline_run", "learn_from")}
        uri = resolve_tracking_uri(options.tracking_uri)
        plain = preview(config, workload, read_prior_runs(config, tracking_uri=uri, **named))
        print_preview(plain)
        return plain, DONE
    config = replace(config, references=_references(options), tracking=_tracking(options))
    same = ("storage", "tracking_uri", "warm_start", "ray_address", "baseline_run", "learn_from")
    display = partial(make_reporter, True, options.verbose)
    result = run_plan(config, workload, **{name: getattr(options, name) for name in same}, display=display)
    print_result(result, options.tracking_uri, options.storage)
    return result_json(result), DONE if result.best_recipe is not None else NO_TRIAL


def _check_cheaply(options: argparse.Namespace) -> None:
    """Refuse what is wrong without the user's module, before torch and lightning are imported for seconds.

    Raises:
        OpttuneError: An argument cannot be used.
    """
    from opttune.arguments import check_numbers, choose_engine, read_length
    from opttune.cli.project import check_project
    from opttune.space.parse import load_space

    parse_trainer(options.trainer)
    check_numbers(options.seed or 0, options.budget, options.trials, options.timeout)
    choose_engine(options.engine, options.workers)
    # a file may name optimizers that the user's module registers
    if not options.space.endswith((".yaml", ".yml")) or not Path(options.space).is_file():
        load_space(options.space)
    check_project(options)
    if not (options.config or options.hydra):
        # MODEL before the length: a call without both is told of MODEL
        _require_model(options)
        read_length(options.max_steps, options.max_epochs, ends_at_first=False)


@contextmanager
def _shown_while(words: str) -> Iterator[None]:
    """Show a line on a terminal while something takes seconds, and remove it then."""
    from opttune.runtime.capture import is_terminal

    if not is_terminal():
        yield
        return
    print(words, end=" ...", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        print("\r\x1b[2K", end="", file=sys.stderr, flush=True)


def _references(options: argparse.Namespace) -> dict[str, str]:
    """Return the references of MODEL and DATA, or of the project, that the study keeps for `opttune confirm`."""
    from opttune.references import absolute_reference

    if options.config or options.hydra:
        from opttune.cli.project import project_source

        return {"project": project_source(options).to_text()}
    given = {"model": options.model, "data": options.data}
    return {name: absolute_reference(reference) for name, reference in given.items() if reference is not None}


def _tracking(options: argparse.Namespace) -> Any:
    from opttune.tracking.settings import Tracking

    return Tracking(
        thin=not options.no_thinning,
        log_model=options.log_model,
        log_data=options.log_data,
        system_metrics=options.system_metrics,
        report=not options.no_report,
    )


def _search_arguments(options: argparse.Namespace) -> dict[str, Any]:
    trainer = parse_trainer(options.trainer)
    told = read_project(options) if options.config or options.hydra else _read_references(options)
    same = ("space", "monitor", "mode", "max_steps", "max_epochs", "budget", "trials", "timeout", "workers", "engine")
    given = {name: getattr(options, name) for name in (*same, "budget_unit", "study", "out_dir", "seed")}
    # defaults for arguments that are not on the command line
    unsaid = {"monitor": "val_loss", "mode": "min", "seed": 0}
    return {
        **{name: unsaid.get(name) if value is None else value for name, value in given.items()},
        "guard": False if options.no_guard else None,
        "baseline": not options.no_baseline,
        "pauses": not options.no_pauses,
        **told,
        "trainer": {**told.get("trainer", {}), **trainer},
    }


def _read_references(options: argparse.Namespace) -> dict[str, Any]:
    from opttune.references import load_reference

    # report what cannot be loaded before heavy libraries are imported
    load_reference(options.model, "MODEL")
    if options.data is not None:
        load_reference(options.data, "DATA")
    return {"model": options.model, "data": options.data}


def _require_model(options: argparse.Namespace) -> None:
    if options.model is None:
        raise InputError(
            "name the model to tune, as path/file.py:name or package.module:name, or a project's config: "
            "--config config.yaml (LightningCLI) or --hydra configs (Hydra)"
        )
    if options.cli:
        raise InputError("--cli names the script of a LightningCLI project: give --config FILE as well.")


def parse_trainer(pairs: Sequence[str]) -> dict[str, Any]:
    """Return the Trainer arguments in `key=value` pairs; values are read as YAML."""
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
