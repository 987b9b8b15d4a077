"""`python -m opttune.engines.inspection_process FOLDER STEPS`: look at a model on the devices that it is trained on."""

import pickle
import sys
from pathlib import Path

from opttune.engines.attempt_file import load_attempt, load_workload, save_result
from opttune.engines.attempt_process import is_first_rank
from opttune.engines.parent_watchdog import watch_parent
from opttune.engines.several import SURVEY
from opttune.errors import OpttuneError
from opttune.training.inspection import survey


def main(arguments: list[str]) -> int:
    """Look at the model of a folder's attempt.

    Args:
        arguments: The folder, and the optimizer steps to train.

    Returns:
        The exit code: 0, whatever came of it.
    """
    folder, steps = Path(arguments[0]), int(arguments[1])
    attempt, workload_folder = load_attempt(folder)
    try:
        looked = survey(attempt, load_workload(workload_folder), steps)
    except OpttuneError as err:
        if is_first_rank():
            save_result(folder, err)
        return 0
    if is_first_rank():
        (folder / SURVEY).write_bytes(pickle.dumps(looked))
    return 0


if __name__ == "__main__":
    watch_parent()
    sys.exit(main(sys.argv[1:]))
