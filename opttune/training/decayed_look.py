"""The value that a paused training would have if its learning rate came down now.

At a rung the learning rate is mostly still high, and with it the noise of the steps; where it has come down, the loss
falls by an amount that depends on the recipe. So a copy of the training continues from the saved state for a few steps
in which its rate falls linearly to zero, is validated, and is thrown away; the training itself resumes from the saved
state. This is the cooldown branch off a trunk of Hägele et al. 2024 (https://arxiv.org/abs/2405.18392), here from any
schedule. `benchmarks/looks.py` compares it with the value at the rung itself.
"""

from typing import Any

from opttune.build.own_knobs import OwnKnobs
from opttune.recipe import OWN, Part
from opttune.trainer.namespaces import AnyCallback


class DecayToZero(AnyCallback):
    """Lets the learning rates of all optimizers fall linearly to zero, whatever else sets them.

    Step `i` of `n`, counted from 0, is made with `(n - i) / n` of its rate.

    Args:
        start: Optimizer steps done before.
        steps: Over how many optimizer steps they fall, >= 1.
    """

    def __init__(self, begin: int, steps: int) -> None:
        super().__init__()
        self._begin, self._steps = begin, steps
        self._knobs: list[OwnKnobs] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Set the factor of the next step."""
        for knobs in self._knobs:
            knobs.remove()
        factor = max(1, self._steps - (trainer.global_step - self._begin)) / self._steps
        part = Part(OWN, {"lr_factor": factor})
        self._knobs = [OwnKnobs(optimizer, part, is_shared=True) for optimizer in trainer.optimizers]
