"""By what a study knows a model and its data again, read from real Trainers."""

import copy
import random

import lightning
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, random_split

from opttune.training.identify import identify
from opttune.training.isolation import isolated
from tests.support.search_models import Classifier


class Points(Dataset):
    def __init__(self, seed=0, change=lambda x: x):
        self.points = torch.randn(32, 8, generator=torch.Generator().manual_seed(seed))
        self.change = change

    def __len__(self):
        return len(self.points)

    def __getitem__(self, place):
        if not 0 <= place < 32:
            raise IndexError(place)
        return self.change(self.points[place].clone()), int(self.points[place, 0] > 0)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(Points())


class ByName(Points):
    """Its sampler gives names, not numbers."""

    def __getitem__(self, name):
        return super().__getitem__(int(name.removeprefix("point ")))


def of_dicts(rows):
    return torch.tensor(np.stack([row[0]["x"] for row in rows])), torch.zeros(len(rows), dtype=torch.long)


def identity_of(model, data, instance=None, **loader):
    trainer = lightning.Trainer(
        max_steps=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        accelerator="cpu", limit_val_batches=0, num_sanity_val_steps=0,
    )  # fmt: skip
    with isolated(0):
        trainer.fit(model, DataLoader(data, batch_size=4, **loader))
        return identify(trainer, instance)


def difference(data, other):
    return identity_of(Classifier(), data).differences(identity_of(Classifier(), other))


class Dropped(Classifier):
    def __init__(self, share=0.1, smoothing=0.0):
        super().__init__()
        self.save_hyperparameters()
        self.drop = nn.Dropout(share)


def test_a_model_is_told_by_layers_and_numbers_beyond_its_parameters():
    before = identity_of(Dropped(), Points())
    assert before.differences(identity_of(Dropped(), Points())) == ("", [])
    what, words = before.differences(identity_of(Dropped(0.5, 0.1), Points()))
    assert what == "another model"
    assert "hyperparameter smoothing: 0.0 in the study, 0.1 now" in words
    assert "layer drop: Dropout(p=0.1, inplace=False) in the study, Dropout(p=0.5, inplace=False) now" in words
    assert before.differences(identity_of(Classifier(), Points()))[1][0] == (
        "class: Dropped in the study, Classifier now"
    )


def test_data_are_told_from_others_of_the_same_length():
    assert difference(Points(), Points()) == ("", [])
    assert difference(Points(), Points(1)) == ("other data", ["the training samples hold other values"])


def test_arrays_and_texts_are_told_from_others():
    def labelled(letter):
        return [({"x": np.full(8, number, np.float32)}, f"{letter}{number}") for number in range(8)]

    one, same, other = (identity_of(Classifier(), labelled(letter), collate_fn=of_dicts) for letter in "aab")
    assert one.differences(same) == ("", [])
    assert one.differences(other)[0] == "other data"


def _own_noise():
    chance = np.random.default_rng()
    return lambda x: x + chance.normal() * 0.1


def _own_flip():
    chance = random.Random()
    return lambda x: x.flip(0) if chance.random() < 0.5 else x


@pytest.mark.parametrize(
    "change",
    [
        lambda: lambda x: x + torch.randn(8),
        lambda: lambda x: x * random.uniform(0.5, 2),
        lambda: lambda x: x.flip(0) if np.random.rand() < 0.5 else x,
        _own_noise,
        _own_flip,
    ],
    ids=["torch", "random", "numpy", "own noise", "own flip"],
)
def test_random_augmentation_is_no_difference(change):
    assert difference(Points(change=change()), Points(change=change())) == ("", [])


def test_a_random_split_is_no_difference():
    assert difference(random_split(Points(), [16, 16])[0], random_split(Points(), [16, 16])[0]) == ("", [])


def test_a_stream_and_what_cannot_be_read_have_no_contents():
    assert identity_of(Classifier(), Stream()).data[0]["contents"] is None
    named = identity_of(Classifier(), ByName(), sampler=[f"point {place}" for place in range(32)])
    assert named.data[0]["contents"] is None


def test_samples_are_read_in_a_worker_process_where_the_loader_has_some():
    data = TensorDataset(torch.arange(256.0).reshape(32, 8), torch.zeros(32, dtype=torch.long))
    assert identity_of(Classifier(), data, num_workers=1).differences(identity_of(Classifier(), data)) == ("", [])


def test_an_instance_is_known_by_its_weights():
    model = Classifier()
    before = identity_of(copy.deepcopy(model), Points(), instance=model)

    assert identity_of(copy.deepcopy(model), Points()).weights is None
    assert identity_of(copy.deepcopy(model), Points(), instance=copy.deepcopy(model)) == before
    with torch.no_grad():
        next(model.parameters()).add_(1e-3)
    assert identity_of(copy.deepcopy(model), Points(), instance=model).weights != before.weights
