"""`python -m opttune.engines.worker`: a process that trains one attempt after another.

It reads commands from standard input, one JSON object per line: `{"train": FOLDER}`, `{"stop": true}`,
`{"environment": {...}}`. It writes a training's reports and its result to standard output; prints of the user's code go
to standard error. When standard input ends, the parent process is gone. The worker then kills itself and all processes
that it has started.
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
from opttune.engines.inline import Train, train_here
from opttune.engines.memory import rss_bytes
from opttune.engines.messages import MessageWriter
from opttune.errors import OpttuneError
from opttune.outcome import Outcome
from opttune.training.stop import StopSwitch


def main() -> None:
    """Run commands until the parent process is gone."""
    # Ctrl-C is for the parent process
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1, encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    switch = StopSwitch()
    # a scheduler may send it to every process of a job
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
            # CUDA reads it when it is initialised, in the first training
            os.environ.update(command["environment"])
        elif "stop" in command:
            switch.stop_requested = True
    end_with_all_it_started()


def end_with_all_it_started() -> None:
    """Kill this process and, if it leads its process group, the whole group, which includes data loader workers."""
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
