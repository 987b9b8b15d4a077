import lightning.pytorch as pl
import pytest
import pytorch_lightning
import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, WeightedRandomSampler

from opttune.training.data_order import DataOrder
from opttune.training.workload import Workload
from tests.support import models as m
from tests.support import pauses as p


def shuffled(**settings):
    return p.loaders(**settings)


def own_generator():
    return p.loaders(generator=torch.Generator().manual_seed(5))


def weighted():
    return p.loaders(shuffle=False, sampler=WeightedRandomSampler([1.0, 2.0] * 16, 32))


def with_replacement():
    generator = torch.Generator().manual_seed(5)
    return p.loaders(shuffle=False, sampler=RandomSampler(p.Noisy(), True, 32, generator=generator))


def batch_sampler():
    return DataLoader(p.Noisy(), batch_sampler=BatchSampler(RandomSampler(p.Noisy()), 4, True)), m.val_loader()


class Data(pl.LightningDataModule):
    def train_dataloader(self):
        return p.loaders()[0]

    def val_dataloader(self):
        return m.val_loader()


class OwnLoaders(p.Net):
    def train_dataloader(self):
        return p.loaders()[0]

    def val_dataloader(self):
        return m.val_loader()


KINDS = {
    "shuffled": shuffled,
    "in order": lambda: shuffled(shuffle=False),
    "own generator": own_generator,
    "a pair": own_generator(),
    "weighted": weighted,
    "with replacement": with_replacement,
    "batch sampler": batch_sampler,
    "data module": Data,
    "an instance": Data(),
}


@pytest.mark.slow
@pytest.mark.parametrize("length", [{"max_steps": 20}, {"max_epochs": 3}], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_a_pause_in_mid_epoch_continues_with_the_batches_that_remain(tmp_path, kind, length):
    p.assert_equal(*p.both(tmp_path, (3, 8, 13), data=KINDS[kind], trainer=length))


def test_the_models_own_loaders_are_followed(tmp_path):
    p.assert_equal(*p.both(tmp_path, (3, 8, 13), model=OwnLoaders, data=None))


class TwoLoaders(p.Net):
    def training_step(self, batch, batch_idx):
        self.seen.append((batch["short"][0].sum().item(), batch["long"][0].sum().item()))
        return super().training_step(batch["long"], batch_idx)


def two_loaders():
    short = DataLoader(m.dataset(12), batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(6))
    return {"long": p.loaders()[0], "short": short}, m.val_loader()


def test_without_a_pause_nothing_is_followed_and_the_order_is_the_same():
    order = DataOrder()
    (loader,) = (m.train_loader(),)
    followed = order.watch(m.Net(), {"train_dataloaders": loader})["train_dataloaders"]
    assert type(loader) is DataLoader
    assert isinstance(followed, DataLoader)
    assert (len(followed), followed.dataset, followed.sampler) == (len(loader), loader.dataset, loader.sampler)
    torch.manual_seed(1)
    expected = [x.sum().item() for x, _ in loader]
    torch.manual_seed(1)
    assert [x.sum().item() for x, _ in followed] == expected


def test_the_hook_of_a_data_module_comes_back():
    data, order = m.Data(), DataOrder()
    order.watch(m.Net(), {"datamodule": data})
    assert "train_dataloader" in vars(data)
    order.release()
    order.release()
    assert "train_dataloader" not in vars(data)


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "rungs"), [(1, (3, 8)), (1, (7,)), (2, (5,))])
def test_with_workers_the_order_is_the_same(tmp_path, workers, rungs):
    def data():
        return DataLoader(m.dataset(), batch_size=4, shuffle=True, num_workers=workers), m.val_loader()

    whole, paused = p.both(tmp_path, rungs, data=data, trainer={"max_epochs": 2})
    assert paused.seen == whole.seen
    assert (paused.end.steps, str(paused.end.reason)) == (16, "completed")


class Foreign(DataLoader):
    """A loader of the user's own class."""


class Doubling(DataLoader):
    """Iterates in its own way."""

    def __iter__(self):
        for x, y in super().__iter__():
            yield 2 * x, y


class Drawing(IterableDataset):
    """A stream of random crops, as language models have it."""

    def __iter__(self):
        x, y = m.dataset().tensors
        while True:
            place = int(torch.randint(len(x), ()))
            yield x[place], y[place]


def foreign():
    return Foreign(m.dataset(), batch_size=4, shuffle=True)


def doubling():
    return Doubling(m.dataset(), batch_size=4, shuffle=True)


def drawing():
    return DataLoader(Drawing(), batch_size=4)


@pytest.mark.parametrize("loader", [m.stream_loader, foreign, doubling, drawing])
@pytest.mark.parametrize("rungs", [(3,), (3, 8)], ids=str)
def test_a_stream_and_a_loader_of_ones_own_continue_from_their_place(tmp_path, loader, rungs):
    data = {"data": lambda: (loader(), m.val_loader())}
    trainer = {"max_steps": 12, "limit_val_batches": 1, "val_check_interval": 4, "check_val_every_n_epoch": None}
    p.assert_equal(*p.both(tmp_path, rungs, trainer=trainer, **data))


@pytest.mark.parametrize("loader", [m.stream_loader, foreign])
@pytest.mark.parametrize("accumulated", [1, 2])
def test_with_accumulated_batches_they_continue_too(tmp_path, loader, accumulated):
    trainer = {"max_steps": 12, "limit_val_batches": 1, "val_check_interval": 4, "check_val_every_n_epoch": None}
    trainer["accumulate_grad_batches"] = accumulated
    paused = p.train(tmp_path / "a.ckpt", (3, 8), data=lambda: (loader(), m.val_loader()), trainer=trainer)
    assert [outcome.steps for outcome in paused.outcomes] == [3, 8, 12], paused.end
    assert [record.step for record in paused.listener.records] == list(range(1, 13))
    assert str(paused.end.reason) == "completed"


@pytest.mark.parametrize("rungs", [(2,), (3, 5), (8, 9)], ids=str)
def test_several_loaders_each_continue_from_their_place(tmp_path, rungs):
    whole, paused = p.both(tmp_path, rungs, model=TwoLoaders, data=two_loaders, trainer={"max_steps": 12})
    p.assert_equal(whole, paused)


class PartsMissing(TwoLoaders):
    def training_step(self, batch, batch_idx):
        return super().training_step({"short": batch["short"] or batch["long"], "long": batch["long"]}, batch_idx)


def combined(mode, namespace=pl):
    def make():
        train, val = two_loaders()
        return namespace.utilities.CombinedLoader(train, mode), val

    return make


@pytest.mark.parametrize("rungs", [(2,), (3, 5), (8, 9), (10,)], ids=str)
@pytest.mark.parametrize(
    ("mode", "model"), [("min_size", TwoLoaders), ("max_size_cycle", TwoLoaders), ("max_size", PartsMissing)]
)
def test_a_combined_loader_continues_from_the_place_of_each(tmp_path, mode, model, rungs):
    whole, paused = p.both(tmp_path, rungs, model=model, data=combined(mode), trainer={"max_steps": 14})
    p.assert_equal(whole, paused)


def test_a_combined_loader_of_the_other_name_is_followed_and_stays_as_it_is():
    given, _ = combined("min_size", pytorch_lightning)()
    followed = DataOrder().watch(m.Net(), {"train_dataloaders": given})["train_dataloaders"]
    assert isinstance(followed, pytorch_lightning.utilities.CombinedLoader)
    assert [type(loader).__name__ for loader in followed.flattened] == ["_Followed", "_Followed"]
    assert [type(loader).__name__ for loader in given.flattened] == ["DataLoader", "DataLoader"]


def test_each_attempt_gets_a_combined_loader_whose_generators_start_alike():
    workload = Workload(m.Net, combined("min_size")())
    drawn = []
    for _ in range(2):
        loader = workload.make_data()["train_dataloaders"].flattened[1]
        drawn.append([x.sum().item() for x, _ in loader])
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("kind", ["dict", "combined"])
def test_a_short_loader_of_ones_own_starts_again_in_the_epoch_in_which_the_training_resumes(tmp_path, kind):
    def data():
        train, val = (
            {"long": p.loaders()[0], "short": Doubling(m.dataset(12), batch_size=4, shuffle=True)},
            m.val_loader(),
        )
        return (train if kind == "dict" else pl.utilities.CombinedLoader(train, "max_size_cycle")), val

    whole, paused = p.both(tmp_path, (3,), model=TwoLoaders, data=data, trainer={"max_steps": 14})
    assert [len(each.seen) for each in (whole.models[-1], paused.models[-1])] == [30, 30]
    assert paused.end.steps == whole.end.steps == 14
    p.assert_equal(whole, paused)
