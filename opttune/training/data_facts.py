"""Facts about the loaders of a Trainer."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from lightning.pytorch.utilities import CombinedLoader

from opttune.training.isolation import quiet_lightning


@dataclass(frozen=True, slots=True)
class DataFacts:
    """Facts about a loader.

    Attributes:
        purpose: Its purpose.
        dataset: The class of its dataset, or of the loader if it has none.
        samples: Samples in it; None if unknown, as for an IterableDataset.
        batch_size: Samples per batch; None if unknown.
        batches: Batches per epoch; None if unknown.
    """

    purpose: Literal["training", "validation"]
    dataset: str
    samples: int | None
    batch_size: int | None
    batches: int | None


def read_data(trainer: Any) -> tuple[DataFacts, ...]:
    """Return the facts about the loaders of a Trainer, after its fit."""
    return tuple(facts for facts, _ in loaders_of(trainer))


def loaders_of(trainer: Any) -> list[tuple[DataFacts, Any]]:
    """Return the loaders of a Trainer, after its fit, each with its facts."""
    loaders = {"training": trainer.train_dataloader, "validation": trainer.val_dataloaders}
    with quiet_lightning():
        return [
            (_facts(purpose, loader), loader)  # type: ignore[arg-type]
            for purpose, given in loaders.items()
            if given is not None
            for loader in CombinedLoader(given).flattened
        ]


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
    # an iterable dataset has none, and may raise anything
    with suppress(Exception):
        return len(thing)
    return None
