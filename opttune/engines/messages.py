"""What a training tells while it runs, as lines of text: from the process that trains to the one that listens."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from opttune.guard.steps import StepRecord
from opttune.training.attempt import AttemptListener


class Teller:
    """A listener that turns all it hears into lines.

    Args:
        write: Takes one line, which ends with a newline.

    Example:
        >>> Teller(lambda line: print(line, end="")).metrics(5, {"val_loss": 0.25})
        {"metrics": [5, {"val_loss": 0.25}]}
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write

    def steps(self, records: list[StepRecord]) -> None:
        """Tell the numbers of some optimizer steps."""
        self.tell({"steps": [[record.step, record.loss, record.lr, record.grad_norm] for record in records]})

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Tell the metrics that the module logged."""
        self.tell({"metrics": [step, dict(values)]})

    def tell(self, message: Mapping[str, Any]) -> None:
        """Tell anything else that JSON can hold; NaN and the infinities are written as Python reads them."""
        self._write(json.dumps(message) + "\n")


def hand_on(message: Mapping[str, Any], listener: AttemptListener) -> None:
    """Give a listener what a line held; other messages than a listener's are passed over.

    Args:
        message: A line of `Teller`, read by `json.loads`.
        listener: Who hears it as if the training ran here.
    """
    if "steps" in message:
        listener.steps([StepRecord(*numbers) for numbers in message["steps"]])
    elif "metrics" in message:
        step, values = message["metrics"]
        listener.metrics(step, values)
