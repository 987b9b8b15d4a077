"""What a training reports while it runs, as lines of text: from the process that trains to its parent."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from opttune.guard.steps import StepRecord
from opttune.training.attempt import AttemptListener


class MessageWriter:
    """A listener that writes all it takes as lines of JSON.

    Args:
        write_line: Takes one line, which ends with a newline.

    Example:
        >>> MessageWriter(lambda line: print(line, end="")).metrics(5, {"val_loss": 0.25})
        {"metrics": [5, {"val_loss": 0.25}]}
    """

    def __init__(self, write_line: Callable[[str], object]) -> None:
        self._write_line = write_line

    def steps(self, records: list[StepRecord]) -> None:
        """Write the numbers of some optimizer steps."""
        self.write({"steps": [[record.step, record.loss, record.lr, record.grad_norm] for record in records]})

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Write the metrics that the module logged."""
        self.write({"metrics": [step, dict(values)]})

    def write(self, message: Mapping[str, Any]) -> None:
        """Write any message that JSON can hold; NaN and the infinities are written as Python reads them."""
        self._write_line(json.dumps(message) + "\n")


def dispatch(message: Mapping[str, Any], listener: AttemptListener) -> None:
    """Give a message to a listener; messages of other kinds are ignored.

    Args:
        message: A line of `MessageWriter`, read by `json.loads`.
        listener: Takes it as if the training ran in this process.
    """
    if "steps" in message:
        listener.steps([StepRecord(*numbers) for numbers in message["steps"]])
    elif "metrics" in message:
        step, values = message["metrics"]
        listener.metrics(step, values)
