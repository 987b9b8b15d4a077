"""Run `rank_script.py` and read what its ranks saw."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.warm import run_warm

ROOT = Path(__file__).parents[2]


@dataclass
class Ran:
    """The result of a script.

    Attributes:
        found: What each process that ran the script found, the first rank's first.
        steps: For each rank the steps at which its trainings ended.
    """

    found: list[Any]
    steps: list[list[int]]


def run_ranks(folder: Path, strategy: str, what: str, times: int = 1) -> Ran:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = ["-m", "tests.support.rank_script", strategy, str(folder), what, str(times)]
    longest = 300 + 100 * times
    done = run_warm(command, ROOT, environment, longest)
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("found*.json"))]
    steps = [[int(line) for line in path.read_text().split()] for path in sorted(folder.glob("ended.rank*"))]
    return Ran(found, steps)
