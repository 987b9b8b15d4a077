"""Facts of real loaders, as a real Trainer holds them."""

import lightning
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, TensorDataset

from opttune.training.data_facts import DataFacts, read_data
from tests.support.search_models import Classifier


class Stream(IterableDataset):
    def __iter__(self):
        return iter(samples())


def samples(count=20):
    return TensorDataset(torch.randn(count, 8), torch.randint(2, (count,)))


def read_after_fit(*loaders):
    trainer = lightning.Trainer(
        max_steps=2, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        accelerator="cpu",
    )  # fmt: skip
    trainer.fit(Classifier(), *loaders)
    return read_data(trainer)


def test_loaders_with_a_length():
    assert read_after_fit(DataLoader(samples(), batch_size=5), DataLoader(samples(7), batch_size=7)) == (
        DataFacts("training", "TensorDataset", samples=20, batch_size=5, batches=4),
        DataFacts("validation", "TensorDataset", samples=7, batch_size=7, batches=1),
    )


def test_a_stream_has_no_length():
    facts, _ = read_after_fit(DataLoader(Stream(), batch_size=5), DataLoader(samples()))
    assert facts == DataFacts("training", "Stream", samples=None, batch_size=5, batches=None)


def test_a_batch_sampler_tells_the_size_of_a_batch():
    data = samples()
    loader = DataLoader(data, batch_sampler=BatchSampler(RandomSampler(data), batch_size=4, drop_last=False))
    assert read_after_fit(loader, DataLoader(data))[0].batch_size == 4


@pytest.mark.parametrize("count", [2, 3])
def test_every_validation_loader_is_there(count):
    class Several(Classifier):
        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            return super().validation_step(batch, batch_idx)

    trainer = lightning.Trainer(
        max_steps=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        accelerator="cpu",
    )  # fmt: skip
    trainer.fit(Several(), DataLoader(samples()), [DataLoader(samples(3)) for _ in range(count)])
    assert [facts.purpose for facts in read_data(trainer)] == ["training", *["validation"] * count]
