"""`opttune transfer`: move the recipe of a search to a longer or shorter training, and forecast the loss."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from opttune.cli.command import DONE, add_command, add_study, check_study
from opttune.errors import InputError


def add_transfer(commands: Any) -> None:
    """Add the command."""
    command = add_command(commands, "transfer", "write the recipe for a longer or shorter training", _run)
    add_study(command)
    add = command.add_argument
    length = command.add_mutually_exclusive_group(required=True).add_argument
    length("--max-steps", metavar="N|10x", help="optimizer steps of that training, or a multiple of the searched ones")
    length("--max-epochs", metavar="N|10x", help="the same in epochs, if the search was given epochs")
    add("--trial", type=int, metavar="N", help="the recipe of this trial (default: the best)")
    add(
        "--out",
        metavar="FILE",
        help="output file (default: recipe_<N>_steps.yaml, or ..._epochs, in the search's folder)",
    )


def _run(options: argparse.Namespace) -> int:
    check_study(options)
    from opttune.length_transfer.transfer import settings_of, transfer_study
    from opttune.space.recipe_file import save_recipe
    from opttune.storages.open_storage import quiet_optuna

    with quiet_optuna():
        found = transfer_study(
            options.study,
            options.max_steps,
            max_epochs=options.max_epochs,
            storage=options.storage,
            trial=options.trial,
        )
    path = found.default_path if options.out is None else Path(options.out)
    try:
        save_recipe(found.recipe, path, "\n".join(found.comments(path.name)))
    except OSError as err:
        why = err.strerror or err
        raise InputError(f"--out: cannot write {path}: {why}. Give a file in a writable folder.") from None
    words = "\n".join([*found.words, f"wrote {path}"])
    if options.json:
        print(words, file=sys.stderr)
        print(json.dumps({**settings_of(found), "recipe": found.recipe.to_dict(), "out": str(path)}, allow_nan=False))
    else:
        print(words)
    return DONE
