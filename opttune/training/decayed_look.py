"""The value of a paused training after a decay of its learning rate.

At a rung the learning rate is usually still high, and so is the noise of the steps. When the rate decays, the loss
falls by an amount that depends on the recipe. Therefore a copy of the training continues from the saved state for a few
steps with a rate that falls linearly to zero. The copy is validated and discarded; the training itself resumes from the
saved state. This is the cooldown branch off a trunk of Hägele et al. 2024 (https://arxiv.org/abs/2405.18392), here from
any schedule. `benchmarks/looks.py` compares it with the value at the rung itself.
"""

from typing import Any

from opttune.build.own_knobs import OwnKnobs
from opttune.recipe import OWN, Part
from opttune.trainer.namespaces import AnyCallback


class DecayToZero(AnyCallback):
    """Decays the learning rates of all optimizers linearly to zero, whatever else sets them.

    Step `i` of `n`, counted from 0, uses `(n - i) / n` of its rate.

    Args:
        start: Optimizer steps done before.
        steps: Optimizer steps of the decay, >= 1.
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
