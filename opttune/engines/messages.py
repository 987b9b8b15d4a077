"""The reports of a running training, as lines of text from the training process to its parent."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from opttune.guard.steps import StepRecord
from opttune.training.attempt import AttemptListener


class MessageWriter:
    """A listener that writes everything as lines of JSON.

    Args:
        write_line: Called with each line, which ends with a newline.

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
        """Write any message of JSON values; NaN and infinities are written as Python's `json` reads them."""
        self._write_line(json.dumps(message) + "\n")


class StepCounter:
    """Passes everything to another listener, and keeps the last step.

    Attributes:
        last_step: The last optimizer step that was reported.
    """

    def __init__(self, listener: AttemptListener) -> None:
        self.last_step = 0
        self._listener = listener

    def steps(self, records: list[StepRecord]) -> None:
        """Pass the numbers of some optimizer steps."""
        self.last_step = records[-1].step if records else self.last_step
        self._listener.steps(records)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Pass the metrics that the module logged."""
        self._listener.metrics(step, values)


def dispatch(message: Mapping[str, Any], listener: AttemptListener) -> None:
    """Pass a message of `MessageWriter`, read by `json.loads`, to a listener; ignore messages of other kinds."""
    if "steps" in message:
        listener.steps([StepRecord(*numbers) for numbers in message["steps"]])
    elif "metrics" in message:
        step, values = message["metrics"]
        listener.metrics(step, values)
