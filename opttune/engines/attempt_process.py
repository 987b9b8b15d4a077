"""`python -m opttune.engines.attempt_process FOLDER`: train the attempt of a folder, in a process of its own.

Under Lightning's strategy `ddp` each further rank runs the same command again: all read the same folder, and the
first alone writes into it. What the training tells goes into `messages.jsonl` line by line, what came of it into
`outcome.json`.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from opttune.engines.attempt_file import MESSAGES, load_attempt, load_workload, save_result
from opttune.engines.messages import Teller
from opttune.engines.parent_watchdog import watch_parent
from opttune.errors import OpttuneError
from opttune.outcome import Outcome, StopReason
from opttune.training.attempt import run_attempt

TRAINED, FAILED, USAGE = 0, 1, 2


def main(arguments: list[str]) -> int:
    """Train the attempt of a folder.

    Args:
        arguments: The folder.

    Returns:
        The exit code: 0, whatever came of the training; of a further rank 1 where it failed, so that Lightning ends
        those that wait for it.
    """
    if len(arguments) != 1:
        print(f"usage: python -m {__spec__.name if __spec__ else __name__} FOLDER", file=sys.stderr)
        return USAGE
    folder = Path(arguments[0])
    with _teller(folder) as teller:
        result = _train(folder, teller)
    if is_first_rank():
        save_result(folder, result)
    elif isinstance(result, OpttuneError) or result.reason is StopReason.FAILED:
        save_result(folder, result, of_rank=os.environ.get("LOCAL_RANK", ""))
        return FAILED
    return TRAINED


def _train(folder: Path, teller: Teller) -> Outcome | OpttuneError:
    attempt, workload_folder = load_attempt(folder)
    try:
        return run_attempt(attempt, load_workload(workload_folder), teller)
    except OpttuneError as err:
        return err


def is_first_rank() -> bool:
    """Return whether this process is the one that speaks for a training of several.

    By the variables that Lightning sets for the ranks it starts, and not by a scheduler's: under `srun` several
    searches may run that each are the first of their own trainings.
    """
    return all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "NODE_RANK"))


@contextmanager
def _teller(folder: Path) -> Iterator[Teller]:
    if not is_first_rank():
        yield Teller(lambda line: None)
        return
    # line by line: who listens reads along
    with (folder / MESSAGES).open("a", encoding="utf-8", buffering=1) as stream:
        yield Teller(stream.write)


if __name__ == "__main__":
    watch_parent()
    sys.exit(main(sys.argv[1:]))
