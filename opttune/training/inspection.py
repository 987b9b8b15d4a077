"""Inspect a model and its data before a search: whether it can be tuned, its length and its logged metrics."""

from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

from torch.nn.parameter import UninitializedParameter

from opttune.build.module_facts import Observed, read_facts
from opttune.build.norms import is_constant, read_norms
from opttune.errors import ModelError, OpttuneError
from opttune.guard.steps import StepRecord
from opttune.identity import Identity
from opttune.space.auto import ModelFacts
from opttune.trainer.namespaces import NAMESPACES, AnyCallback
from opttune.training.attempt import Attempt, NullListener, TrainingRun
from opttune.training.causes import cause_of
from opttune.training.data_facts import DataFacts, read_data
from opttune.training.errors import located
from opttune.training.finders import words_of
from opttune.training.first_batch import WatchFirstBatch
from opttune.training.identify import identify
from opttune.training.isolation import isolated
from opttune.training.logged_names import StepMetrics, may_log, validates
from opttune.training.metrics import read_monitor
from opttune.training.own_optimizer import OwnConfiguration, own_facts
from opttune.training.workload import Workload


@dataclass(frozen=True, slots=True)
class ModelInspection:
    """The result of an inspection.

    Attributes:
        model_name: The class of the model.
        parameters: Trainable parameters.
        total_steps: Optimizer steps of the full length.
        replaced: The module's own optimizer, in words.
        has_own_optimizer: Whether that optimizer works.
        facts: Facts about the model.
        groups: Table of the recipe's parameter groups in Markdown.
        has_own_groups: Whether that optimizer has several groups, or leaves some parameters out.
        summary: Lightning's table of the model's layers.
        data: Facts about the loaders.
        not_paused: The reason why trainings are not paused, in a sentence; empty if they are.
        identity: The identity of the model and the data; None if nothing was trained.
        notes: Parts that a training leaves out, or replaces beside the optimizer, one sentence each.
        seconds: Estimated time of a training of the full length, from its first batch; None after too few steps.
        start_seconds: Wall time from the start of a training to its first batch; None if it is unknown.
        is_instance: Whether the model was given as an instance, whose weights every training starts from.
    """

    model_name: str
    parameters: int
    total_steps: int
    replaced: str
    has_own_optimizer: bool
    facts: ModelFacts
    groups: str = ""
    has_own_groups: bool = False
    summary: str = ""
    data: tuple[DataFacts, ...] = ()
    not_paused: str = ""
    identity: Identity | None = None
    notes: tuple[str, ...] = ()
    seconds: float | None = None
    start_seconds: float | None = None
    is_instance: bool = False


class _FirstLoss(NullListener):
    """Notes the loss of the first step, which no optimizer has changed yet."""

    def __init__(self) -> None:
        self._loss: float | None = None

    def steps(self, records: list[StepRecord]) -> None:
        """Note it."""
        self._loss = next((record.loss for record in records if record.step == 1), self._loss)

    def refuse_non_finite(self, name: str) -> None:
        """Raise an error if it is not finite."""
        if self._loss is not None and not isfinite(self._loss):
            raise ModelError(
                f"{name}: the loss of the first step is {self._loss}, before any update of the weights, so no "
                "optimizer can train it. Check the loss and the first batch; Trainer(detect_anomaly=True) shows the "
                "operation. If such a loss may come, search without the guard (guard=False, --no-guard)."
            )


class _FirstNorms(AnyCallback):
    """Notes the module's norms before its first step, and after its hooks that may load weights."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[int, bool | None] | None = None

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Note them."""
        if self.found is None:
            self.found = read_norms(pl_module)


def inspect_model(attempt: Attempt, workload: Workload, steps: int, watches: bool = True) -> ModelInspection:
    """Set up a model for a recipe and train at most a few steps, to find errors within seconds.

    Args:
        attempt: The attempt, as in the search.
        workload: The user's model and data.
        steps: Optimizer steps to train, without the attempt's guard. 0 runs only the first batch; otherwise a
            validation follows. It must log the monitored metric, or the module's code must name it, because an
            expensive metric may be logged rarely.
        watches: Whether to observe the module's operations in the first batch; else its classes indicate them.

    Raises:
        OpttuneError: The model cannot be tuned, fails in its first steps, or does not log the metric; or its first
            loss is not finite, and the attempt has a guard, which would end every training there.
    """
    first_batch = WatchFirstBatch() if watches else None
    first_loss, step_metrics, first_norms = _FirstLoss(), StepMetrics(), _FirstNorms()
    callbacks = [each for each in (first_batch, step_metrics, first_norms) if each is not None]
    run = TrainingRun(replace(attempt, guard=None), first_loss, stop_at_step=steps, callbacks=callbacks)
    with isolated(attempt.seed):
        try:
            run.fit(workload)
        except OpttuneError:
            raise
        except Exception as err:
            if first_batch is not None and first_batch.has_failed:
                # the module's code may not work under the watch
                return inspect_model(attempt, workload, steps, watches=False)
            words = f"{workload.name} fails when it is set up for training: {located(err)}."
            if run.trainer is None or run.trainer.world_size == 1:
                fails_alike, optimizer = _own_training(attempt, workload, steps)
                if not fails_alike and steps > 1 and run.steps_done >= 1:
                    # it can be set up; its trial will show the effect of one recipe's rate
                    return inspect_model(attempt, workload, steps=1)
                words += f" {cause_of(err, fails_alike, optimizer)}"
            raise ModelError(words) from err
    if attempt.guard is not None and run.trainer.lightning_module.automatic_optimization:
        first_loss.refuse_non_finite(workload.name)
    observed = Observed(None if first_batch is None else first_batch.operations, first_norms.found)
    inspection = _inspection_of(run, workload, steps, observed)
    note = step_metrics.note(attempt.monitor)
    return replace(inspection, notes=(*inspection.notes, note)) if note else inspection


def _inspection_of(run: TrainingRun, workload: Workload, steps: int, observed: Observed) -> ModelInspection:
    """Return the result of a fit of a few steps."""
    attempt = run.attempt
    identity = None
    logged = run.trainer.callback_metrics
    if steps and (attempt.monitor in logged or not may_log(run.trainer, attempt.monitor, logged)):
        read_monitor(logged, attempt.monitor, validates(run.trainer))
    if steps:
        with isolated(attempt.seed):
            identity = identify(run.trainer, workload.model if workload.is_instance else None)
    model = run.trainer.lightning_module
    own = OwnConfiguration() if run.attacher is None or run.attacher.own is None else run.attacher.own
    return ModelInspection(
        model_name=type(model).__name__,
        parameters=sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        total_steps=run.total_steps,
        replaced=run.replaced,
        has_own_optimizer=bool(own.optimizers),
        facts=_read_facts(model, own, workload, attempt.seed, observed),
        groups="" if run.attacher is None else run.attacher.groups,
        has_own_groups=_has_own_groups(own, model),
        summary=_summary(model),
        data=read_data(run.trainer),
        identity=identity,
        notes=_notes(run),
        seconds=_seconds(run),
        start_seconds=run.clock.start_seconds,
        is_instance=workload.is_instance,
    )


def _seconds(run: TrainingRun) -> float | None:
    return None if run.pace is None else run.pace.seconds(run.clock.step_seconds, run.trainer, run.total_steps)


def _notes(run: TrainingRun) -> tuple[str, ...]:
    replaced = [] if run.attacher is None else [f"{note}." for note in run.attacher.module_notes]
    return (*([words_of(run.finders.left_out)] if run.finders.left_out else []), *replaced)


def _own_training(attempt: Attempt, workload: Workload, steps: int) -> tuple[bool, str]:
    """Return whether the module's own optimizer fails too, and the optimizer of the recipe."""
    try:
        TrainingRun(replace(attempt, recipe=None), NullListener(), stop_at_step=steps).fit(workload)
    except Exception:  # of the user's code, or of opttune
        return True, ""
    return False, "" if attempt.recipe is None else attempt.recipe.optimizer.name


def _frozen_by_chance(own: OwnConfiguration, model: Any, workload: Workload, seed: int) -> set[int]:
    """Return the ids of frozen parameters with random weights that the module's own optimizer holds.

    Such a module probably thaws them later, and then trains them from scratch. Pretrained weights are the same with
    every seed, so the module is made again with another seed.
    """
    held = {id(parameter) for group in own.groups or () for parameter in group["params"]}
    frozen = {
        name: parameter
        for name, parameter in model.named_parameters()
        if id(parameter) in held and not parameter.requires_grad
    }
    if not frozen:
        return set()
    with isolated(seed + 1):
        try:
            other = dict(workload.make_model().named_parameters())
            by_chance = {name for name in frozen.keys() & other.keys() if _is_another(frozen[name], other[name])}
        except Exception:  # of the user's code, or of weights that a strategy has spread over devices
            return set()
    # zeros for a bias and ones for a norm were not learned either
    constant = {name for name, parameter in frozen.items() if by_chance and is_constant(parameter)}
    return {id(frozen[name]) for name in by_chance | constant}


def _is_another(one: Any, other: Any) -> bool:
    if isinstance(one, UninitializedParameter) or isinstance(other, UninitializedParameter):
        return False
    return one.shape == other.shape and not bool((one.detach().cpu() == other.detach().cpu()).all())


def _read_facts(model: Any, own: OwnConfiguration, workload: Workload, seed: int, observed: Observed) -> ModelFacts:
    facts = read_facts(model, own.groups, _frozen_by_chance(own, model, workload, seed), observed)
    has_sparse = facts.has_sparse or any(map(_is_sparse, model.parameters()))
    return replace(facts, has_sparse=has_sparse, own=own_facts(own))


def _is_sparse(parameter: Any) -> bool:
    return parameter.grad is not None and parameter.grad.is_sparse


def _has_own_groups(own: OwnConfiguration, model: Any) -> bool:
    groups = own.groups or []
    held = sum(len(list(group["params"])) for group in groups)
    trainable = sum(parameter.requires_grad for parameter in model.parameters())
    return len(groups) > 1 or (len(groups) == 1 and held < trainable)


def _summary(model: Any) -> str:
    namespace = next(each for each in NAMESPACES if isinstance(model, each.LightningModule))
    try:
        return str(namespace.utilities.model_summary.ModelSummary(model, max_depth=2))
    except Exception as err:  # it runs an example input through the model, if there is one
        return f"no summary: {type(err).__name__}: {err}"
