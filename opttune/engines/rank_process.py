"""`python -m opttune.engines.rank_process train FOLDER` or `... inspect FOLDER STEPS`: one rank of a training.

Under Lightning's strategy `ddp` each further rank runs the same command again. All ranks read the attempt from the same
folder, and the first rank writes into it: reports line by line into `messages.jsonl`, the result into `outcome.json`,
an inspection into `inspection.pkl`. A further rank writes only an error.
"""

import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from opttune.engines.attempt_file import MESSAGES, load_attempt, load_workload, save_result
from opttune.engines.messages import MessageWriter
from opttune.errors import OpttuneError
from opttune.outcome import Outcome
from opttune.training.attempt import run_attempt
from opttune.training.inspection import inspect_model

PARENT_PIPE = "OPTTUNE_PARENT_PIPE"
"""Environment variable that is set if the parent process holds standard input open."""
INSPECTION = "inspection.pkl"
DONE, FAILED, USAGE = 0, 1, 2


def main(arguments: list[str]) -> int:
    """Train the attempt of a folder, or inspect its model.

    Args:
        arguments: `train` and the folder; or `inspect`, the folder and the optimizer steps to train.

    Returns:
        The exit code: 0 for any result. A further rank of a training returns 1 if it failed, so that Lightning ends the
        ranks that wait for it.
    """
    match arguments:
        case ["train", folder]:
            return _train(Path(folder))
        case ["inspect", folder, steps]:
            return _inspect(Path(folder), int(steps))
    print("usage: python -m opttune.engines.rank_process train FOLDER | inspect FOLDER STEPS", file=sys.stderr)
    return USAGE


def _train(folder: Path) -> int:
    attempt, workload_folder = load_attempt(folder)
    result: Outcome | OpttuneError
    with _message_writer(folder) as writer:
        try:
            result = run_attempt(attempt, load_workload(workload_folder), writer)
        except OpttuneError as err:
            result = err
    if _is_first_rank():
        save_result(folder, result)
    elif isinstance(result, OpttuneError) or result.traceback:
        save_result(folder, result, of_rank=os.environ.get("LOCAL_RANK", ""))
        return FAILED
    return DONE


def _inspect(folder: Path, steps: int) -> int:
    attempt, workload_folder = load_attempt(folder)
    try:
        inspection = inspect_model(attempt, load_workload(workload_folder), steps)
    except OpttuneError as err:
        if _is_first_rank():
            save_result(folder, err)
        return DONE
    if _is_first_rank():
        (folder / INSPECTION).write_bytes(pickle.dumps(inspection))
    return DONE


def _is_first_rank() -> bool:
    """Return whether this process is the first rank of its training.

    It depends on the variables that Lightning sets for the ranks that it starts, not on those of a scheduler: under
    `srun` several searches may run, and each has first ranks.
    """
    return all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "NODE_RANK"))


@contextmanager
def _message_writer(folder: Path) -> Iterator[MessageWriter]:
    if not _is_first_rank():
        yield MessageWriter(lambda line: None)
        return
    # line by line, because the parent process reads it at the same time
    with (folder / MESSAGES).open("a", encoding="utf-8", buffering=1) as stream:
        yield MessageWriter(stream.write)


def watch_parent() -> None:
    """Kill this process and its group as soon as the parent process has ended for any reason.

    Standard input ends with the parent. Without `PARENT_PIPE` it has another source, and nothing is watched.
    """
    if os.environ.get(PARENT_PIPE):
        threading.Thread(
            target=_kill_at_end_of, args=(sys.stdin.fileno(),), name="opttune-parent-watchdog", daemon=True
        ).start()


def _kill_at_end_of(descriptor: int) -> None:
    while os.read(descriptor, 1024):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    watch_parent()
    sys.exit(main(sys.argv[1:]))
