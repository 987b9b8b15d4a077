"""Check before a search whether its trainings can pause: one is paused after a step, resumed, and compared."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from opttune.build.own_knobs import group_rates
from opttune.errors import OpttuneError
from opttune.outcome import StopReason
from opttune.training.attempt import Attempt, NullListener, TrainingRun
from opttune.training.errors import located
from opttune.training.isolation import isolated
from opttune.training.python_state import plain_state
from opttune.training.workload import Workload

_STEPS = 2
_NEVER_PAUSED = ("StochasticWeightAveraging",)
"""Lightning's callbacks that do not resume a training as if it had never stopped. Their effect is too late to appear in
two steps: with batch norm their last epoch cannot be resumed at all."""


@dataclass(frozen=True, slots=True)
class PauseCheck:
    """The result of the check.

    Attributes:
        why_not: Why trainings must not pause, in words; empty if they can.
        start_seconds: Wall time from the start of a training to its first batch; None if it fails before that. Unlike
            an inspection's, it does not include the imports and caches of the first training.
    """

    why_not: str
    start_seconds: float | None


def check_pause(attempt: Attempt, workload: Workload) -> PauseCheck:
    """Find out whether trainings can pause.

    Two steps without a break are compared with two steps and a pause between them: weights, rates, and the module's own
    numbers must be equal. If two trainings without a break already differ, the comparison shows nothing.

    Args:
        attempt: The attempt, as in the search; its recipe is trained.
        workload: The user's model and data.
    """
    attempt = replace(attempt, trainer={**attempt.trainer, "limit_val_batches": 1})
    uninterrupted, run = _train(attempt, workload, stop_at_step=_STEPS)
    return PauseCheck(_why_not(attempt, workload, uninterrupted, run), run.clock.start_seconds)


def _why_not(attempt: Attempt, workload: Workload, uninterrupted: dict[str, Any] | str, run: TrainingRun) -> str:
    """Compare a training of two steps without a break with one that is paused and resumed."""
    if isinstance(uninterrupted, str) or run.total_steps <= _STEPS or run.steps_done < _STEPS:
        # a failure without a break is found elsewhere
        return ""
    for callback in run.trainer.callbacks:
        if type(callback).__name__ in _NEVER_PAUSED:
            return f"{type(callback).__name__} cannot be resumed within a training"
    with tempfile.TemporaryDirectory(prefix="opttune-") as folder:
        path = Path(folder) / "paused.ckpt"
        paused, run = _train(replace(attempt, until_step=1, checkpoint=path), workload)
        if isinstance(paused, str):
            return paused
        if not path.exists():
            return ""
        # several optimizers step in one batch, which is trained whole
        last = int(run.trainer.global_step) + 1
        if last > _STEPS:
            uninterrupted, _ = _train(attempt, workload, stop_at_step=last)
        resumed, _ = _train(replace(attempt, resume_from=path), workload, stop_at_step=last)
    if isinstance(resumed, str):
        return f"a training that is resumed fails: {resumed}"
    if isinstance(uninterrupted, str) or not (different := _difference(uninterrupted, resumed)):
        return ""
    again, _ = _train(attempt, workload, stop_at_step=last)
    if isinstance(again, str) or _difference(uninterrupted, again):
        return ""
    return f"a resumed training differs from one without a break: {different}"


def _train(
    attempt: Attempt, workload: Workload, stop_at_step: int | None = None
) -> tuple[dict[str, Any] | str, TrainingRun]:
    """Train and return the facts to compare, or the error in words."""
    run = TrainingRun(attempt, NullListener(), stop_at_step=stop_at_step, loads_in_process=True)
    with isolated(attempt.seed):
        try:
            run.fit(workload)
            if attempt.until_step is not None and run.result()[0] is not StopReason.PAUSED:
                return {}, run
        except OpttuneError as err:
            return str(err), run
        except Exception as err:
            return located(err), run
        finally:
            run.clean_up()
    return _facts(run.trainer), run


def _facts(trainer: Any) -> dict[str, Any]:
    module = trainer.lightning_module
    named = (*module.named_parameters(), *module.named_buffers())
    rates = [rate for optimizer in trainer.optimizers for rate in group_rates(optimizer)]
    return {
        "the number of parameter groups": len(rates),
        **{f"the rate of group {number}": rate for number, rate in enumerate(rates)},
        **plain_state(trainer),
        **{name: tensor.detach().cpu().clone() for name, tensor in named},
    }


def _difference(one: dict[str, Any], other: dict[str, Any]) -> str:
    """Return the first fact that differs; empty if none does."""
    return next((name for name, value in one.items() if not _equal(value, other.get(name))), "")


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one.nan_to_num(), other.nan_to_num())
    return bool(one == other) or (one != one and other != other)
