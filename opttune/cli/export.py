"""`opttune export`: print a recipe as a recipe file, a LightningCLI config or plain torch code."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from opttune.cli.command import DONE, add_command, add_study, check_study
from opttune.errors import InputError

FORMATS = ("recipe", "lightning-cli", "hydra", "python")


def add_export(commands: Any) -> None:
    """Add the command."""
    command = add_command(commands, "export", "print the best recipe of a search in another format", _run)
    add_study(command)
    add = command.add_argument
    add(
        "--format",
        choices=FORMATS,
        default="recipe",
        help="recipe: a file for RecipeCallback; lightning-cli: a second --config for a LightningCLI; "
        "hydra: an experiment config of a Hydra project; "
        "python: a configure_optimizers without opttune (default: recipe)",
    )
    add("--trial", type=int, metavar="N", help="the recipe of this trial (default: the best)")
    add("--output", metavar="FILE", help="write to a file (default: standard output)")


def _run(options: argparse.Namespace) -> int:
    if not (options.study.endswith((".yaml", ".yml")) and Path(options.study).is_file()):
        check_study(options)
    from opttune.export import export_study
    from opttune.storages.open_storage import quiet_optuna

    with quiet_optuna():
        exported = export_study(options.study, options.format, storage=options.storage, trial=options.trial)
    for note in exported.notes:
        print(f"opttune: note: {note}", file=sys.stderr)
    if options.output is not None:
        try:
            Path(options.output).write_text(exported.text, encoding="utf-8")
        except OSError as err:
            raise InputError(f"--output: cannot write {options.output}: {err.strerror or err}.") from None
    if options.json:
        print(json.dumps({"format": options.format, "text": exported.text, "notes": list(exported.notes),
                          "recipe": exported.recipe.to_dict(), "output": options.output}))  # fmt: skip
    elif options.output is None:
        print(exported.text, end="")
    else:
        print(f"wrote {options.output}")
    return DONE
