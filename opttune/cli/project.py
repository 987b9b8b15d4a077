"""`--config` and `--hydra`: read the arguments of a search from a LightningCLI or Hydra project."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from opttune.errors import InputError

_FLAG, _HYDRA = "--config", "--hydra"


def add_project(command: argparse.ArgumentParser) -> None:
    """Add the options that name a project."""
    add = command.add_argument
    config = "config of a LightningCLI project, instead of MODEL and DATA; arguments after -- go to its CLI"
    add(_FLAG, action="append", default=[], metavar="FILE", help=config)
    script = "script that makes the LightningCLI, or a function in it (default: the one in the folder)"
    add("--cli", default="", metavar="FILE[:NAME]", help=script)
    hydra = "configs of a Hydra project, instead of MODEL and DATA; its overrides go after --"
    add(_HYDRA, default="", metavar="CONFIG_DIR[/NAME]", help=hydra)
    command.set_defaults(project_arguments=[])


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the command's own arguments, and those after `--`, which belong to a project.

    Example:
        >>> split_arguments(["search", "--config", "c.yaml", "--", "--model.width=8"])
        (['search', '--config', 'c.yaml'], ['--model.width=8'])
    """
    own = list(arguments)
    if "--" not in own:
        return own, []
    at = own.index("--")
    names_a_project = any(argument.partition("=")[0] in (_FLAG, _HYDRA) for argument in own[:at])
    return (own[:at], own[at + 1 :]) if names_a_project else (own, [])


def check_project(options: argparse.Namespace) -> None:
    """Refuse options that name no project, or two.

    Raises:
        InputError: They do.
    """
    from opttune.references import require_file

    if options.hydra and (options.config or options.model or options.cli):
        raise InputError("--hydra names the whole project: give it without MODEL, DATA, --config and --cli.")
    for config in options.config:
        require_file(config, "--config")


def project_source(options: argparse.Namespace) -> Any:
    """Return the source of the project."""
    from opttune.project.hydra import find_hydra
    from opttune.project.start import CliSource, find_script

    if options.hydra:
        return find_hydra(options.hydra, tuple(options.project_arguments))
    configs = tuple(options.config)
    # with MODEL, the project is a plain LightningCLI of that class
    script = options.cli or ("" if options.model else find_script(configs))
    return CliSource(configs, script, options.model or "", options.data or "", tuple(options.project_arguments))


def read_project(options: argparse.Namespace) -> dict[str, Any]:
    """Return the model, data, Trainer settings, length, monitor and seed of a search, from a project's config.

    The command line overrides the config.

    Raises:
        OpttuneError: The project cannot be started, or does not set the length of a training.
    """
    # this imports Lightning
    from opttune.project.read import load_project

    source = project_source(options)
    project = load_project(source)
    for note in project.notes:
        print(f"opttune: {note}", file=sys.stderr)
    own_length = {name: getattr(options, name) for name in ("max_steps", "max_epochs")}
    length = own_length if any(own_length.values()) else {**own_length, **project.length}
    if not any(length.values()):
        raise InputError(
            f"{source.words} sets no length of a training (trainer.max_steps or trainer.max_epochs). "
            "Give --max-steps N or --max-epochs N."
        )
    monitor, mode = project.watched or (None, None)
    if options.monitor not in (None, monitor):
        monitor, mode = options.monitor, None
    found = {"monitor": monitor, "mode": options.mode or mode, "seed": project.seed}
    return {
        "model": project.model,
        "data": project.data,
        "trainer": project.trainer,
        **length,
        "ends_at_first": True,
        **{name: value for name, value in found.items() if value is not None and getattr(options, name) is None},
    }
