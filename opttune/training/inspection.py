"""Inspect a model and its data before a search: can it be tuned, how long does it train, what does it log?"""

import traceback
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

from lightning.pytorch.utilities import CombinedLoader

from opttune.build.module_facts import read_facts
from opttune.errors import ModelError, OpttuneError
from opttune.space.auto import ModelFacts
from opttune.trainer.namespaces import NAMESPACES
from opttune.training.attempt import Attempt, NullListener, TrainingRun
from opttune.training.isolation import isolated, quiet_lightning
from opttune.training.metrics import read_monitor
from opttune.training.own_optimizer import OwnOptimizer
from opttune.training.workload import Workload


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What a loader holds.

    Attributes:
        purpose: What it is for.
        dataset: The class of its dataset, or of the loader where it has none.
        samples: Samples in it; None if unknown, as for an IterableDataset.
        batch_size: Samples of a batch; None if unknown.
        batches: Batches of an epoch; None if unknown.
    """

    purpose: Literal["training", "validation"]
    dataset: str
    samples: int | None
    batch_size: int | None
    batches: int | None


@dataclass(frozen=True, slots=True)
class ModelInspection:
    """The result of an inspection.

    Attributes:
        model_name: The class of the model.
        parameters: Trainable parameters.
        total_steps: Optimizer steps of the full length.
        replaced: The module's own optimizer, in words.
        has_own_optimizer: Whether that optimizer works.
        facts: What kind of model it is.
        groups: Table of the recipe's parameter groups in Markdown.
        has_own_groups: Whether that optimizer has several groups, or leaves some parameters out.
        summary: Table of the model's layers, as Lightning draws it.
        data: What the loaders hold.
        notes: What of the model is replaced beside its optimizer; one sentence each.
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
    notes: tuple[str, ...] = ()


def inspect_model(attempt: Attempt, workload: Workload, steps: int) -> ModelInspection:
    """Set a model up for a recipe and train a few steps at most, to find errors within seconds.

    Args:
        attempt: As in the search.
        workload: The user's model and data.
        steps: Optimizer steps to train. 0 trains nothing; otherwise a validation follows, which must log the
            monitored metric.

    Raises:
        OpttuneError: The model cannot be tuned, fails in its first steps, or does not log the metric.
    """
    run = TrainingRun(attempt, NullListener(), stop_at_step=steps)
    with isolated(attempt.seed):
        try:
            run.fit(workload)
        except OpttuneError:
            raise
        except Exception as err:
            raise ModelError(f"{workload.name} fails when it is set up for training: {_located(err)}") from err
    if steps:
        read_monitor(run.trainer.callback_metrics, attempt.monitor)
    model = run.trainer.lightning_module
    facts = read_facts(model)
    own = None if run.attacher is None else run.attacher.own
    return ModelInspection(
        model_name=type(model).__name__,
        parameters=sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        total_steps=run.total_steps,
        replaced=run.replaced,
        has_own_optimizer=own is not None and own.groups is not None,
        facts=replace(facts, has_sparse=facts.has_sparse or any(map(_is_sparse, model.parameters()))),
        groups="" if run.attacher is None else run.attacher.groups,
        has_own_groups=own is not None and _has_own_groups(own, model),
        summary=_summary(model),
        data=read_data(run.trainer),
        notes=() if run.attacher is None else tuple(run.attacher.module_notes),
    )


def read_data(trainer: Any) -> tuple[DataFacts, ...]:
    """Return what the loaders of a Trainer hold, after its fit."""
    loaders = {"training": trainer.train_dataloader, "validation": trainer.val_dataloaders}
    with quiet_lightning():
        return tuple(
            _facts(purpose, loader)  # type: ignore[arg-type]
            for purpose, given in loaders.items()
            if given is not None
            for loader in CombinedLoader(given).flattened
        )


def _facts(purpose: Literal["training", "validation"], loader: Any) -> DataFacts:
    dataset = getattr(loader, "dataset", loader)
    batch_size = getattr(loader, "batch_size", None)
    if batch_size is None:
        batch_size = getattr(getattr(loader, "batch_sampler", None), "batch_size", None)
    return DataFacts(
        purpose=purpose,
        dataset=type(dataset).__name__,
        samples=_length(dataset) if dataset is not loader else None,
        batch_size=batch_size if isinstance(batch_size, int) else None,
        batches=_length(loader),
    )


def _length(thing: Any) -> int | None:
    # an iterable one has none, and may raise anything
    with suppress(Exception):
        return len(thing)
    return None


def _is_sparse(parameter: Any) -> bool:
    return parameter.grad is not None and parameter.grad.is_sparse


def _has_own_groups(own: OwnOptimizer, model: Any) -> bool:
    groups = own.groups or ()
    held = sum(len(list(group["params"])) for group in groups)
    trainable = sum(parameter.requires_grad for parameter in model.parameters())
    return len(groups) > 1 or (len(groups) == 1 and held < trainable)


def _summary(model: Any) -> str:
    namespace = next(each for each in NAMESPACES if isinstance(model, each.LightningModule))
    try:
        return str(namespace.utilities.model_summary.ModelSummary(model, max_depth=2))
    except Exception as err:  # it runs an example input through the model, where there is one
        return f"no summary: {type(err).__name__}: {err}"


def _located(err: Exception) -> str:
    """Return an error with the line of the user's code that raised it."""
    frames = traceback.extract_tb(err.__traceback__)
    theirs = [frame for frame in frames if "site-packages" not in frame.filename]
    frame = (theirs or frames)[-1]
    return f"{type(err).__name__}: {err} ({frame.filename}:{frame.lineno})"
