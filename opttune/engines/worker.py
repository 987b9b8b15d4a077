"""`python -m opttune.engines.worker`: a process that trains one attempt after another, on command.

Commands come on standard input, a line of JSON each: `{"train": FOLDER}`, `{"stop": true}`, `{"environment": {...}}`.
What a training reports, and its result, goes back on standard output; what the user's own code prints goes to standard
error. When standard input ends, the parent process is gone: this one ends at once, with all that it has started.
"""

import json
import os
import queue
import signal
import sys
import threading
from pathlib import Path
from typing import TextIO

from opttune.engines.attempt_file import load_attempt, load_workload, result_message
from opttune.engines.inline import Train, rss_bytes, train_here
from opttune.engines.messages import MessageWriter
from opttune.errors import OpttuneError
from opttune.outcome import Outcome
from opttune.training.stop import StopSwitch


def main() -> None:
    """Train on command until the parent process is gone."""
    # Ctrl-C is for the parent process
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1, encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    switch = StopSwitch()
    # what a scheduler may send to every process of a job
    signal.signal(signal.SIGTERM, lambda *_: setattr(switch, "stop_requested", True))
    folders: queue.SimpleQueue[Path] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin, folders, switch), daemon=True).start()
    writer = MessageWriter(out.write)
    trains: dict[Path, Train] = {}
    while True:
        result = _train(folders.get(), writer, switch, trains)
        writer.write({**result_message(result), "rss_bytes": rss_bytes()})


def _listen(commands: TextIO, folders: "queue.SimpleQueue[Path]", switch: StopSwitch) -> None:
    for line in commands:
        command = json.loads(line)
        if "train" in command:
            folders.put(Path(command["train"]))
        elif "environment" in command:
            # CUDA looks at it when it starts, with the first training
            os.environ.update(command["environment"])
        elif "stop" in command:
            switch.stop_requested = True
    end_with_all_it_started()


def end_with_all_it_started() -> None:
    """End this process and, where it leads a group of its own, all others of the group: loaders of data, say."""
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


def _train(
    folder: Path, writer: MessageWriter, switch: StopSwitch, trains: dict[Path, Train]
) -> Outcome | OpttuneError:
    try:
        attempt, workload_folder = load_attempt(folder)
        if workload_folder not in trains:
            trains[workload_folder] = train_here(load_workload(workload_folder), switch)
        return trains[workload_folder](attempt, writer)
    except OpttuneError as err:
        return err


if __name__ == "__main__":
    main()
