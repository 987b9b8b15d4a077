import functools
import threading

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from opttune.errors import ModelError
from opttune.training.workload import Workload
from tests.support import models as m


class Wide(m.Net):
    def __init__(self, width):
        super().__init__()


class WideData(m.Data):
    def __init__(self, folder):
        super().__init__()


def make_wide():
    return Wide(3)


@pytest.mark.parametrize("model", [m.Net, m.OtherNet, make_wide, functools.partial(Wide, 3), lambda: m.Net()])
def test_a_class_or_factory_is_called_for_each_attempt(model):
    workload = Workload(model)
    first, second = workload.make_model(), workload.make_model()
    assert first is not second


def test_an_instance_is_copied_for_each_attempt():
    model = m.Net()
    first, second = (Workload(model).make_model() for _ in range(2))
    assert len({id(model), id(first), id(second)}) == 3
    assert Workload(model).is_instance
    assert not Workload(m.Net).is_instance
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in first.state_dict().items())


@pytest.mark.parametrize(
    ("model", "name"),
    [(m.Net, "Net"), (m.Net(), "Net"), (make_wide, "make_wide"), (functools.partial(Wide, 3), "Wide")],
)
def test_it_is_called_by_the_name_of_its_model(model, name):
    assert Workload(model).name == name


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (Wide, r"the model Wide cannot be made without arguments .*'width'.*def make\(\): return Wide\(\.\.\.\)"),
        (3, "a model must be a LightningModule, its class, or a factory, got int"),
        (nn.Linear(2, 2), "a model must be a LightningModule, its class, or a factory, got Linear"),
        (m.Data, r"Data is a LightningDataModule, not a LightningModule: are MODEL and DATA swapped\?"),
        (m.Data(), r"Data is a LightningDataModule, not a LightningModule: are MODEL and DATA swapped\?"),
        (nn.Identity, "Identity is not a LightningModule: it returns Identity"),
        (dict, "dict is not a LightningModule: it returns dict"),
    ],
)
def test_what_gives_no_module_is_refused(model, problem):
    with pytest.raises(ModelError, match=problem):
        Workload(model).make_model()


@pytest.mark.parametrize("data", [m.Net, m.Net(), functools.partial(m.Net), lambda: m.Net()])
def test_loaders_given_as_the_model_and_the_model_as_the_data_are_named_as_swapped(data):
    def loaders():
        return [], []

    swapped = r"loaders returns tuple, not a LightningModule: are MODEL and DATA swapped\?"
    with pytest.raises(ModelError, match=swapped):
        Workload(loaders, data).make_model()


def test_loaders_that_are_given_as_an_object_are_named_as_swapped_too():
    with pytest.raises(ModelError, match=r"MODEL is a tuple, not a LightningModule: are MODEL and DATA swapped\?"):
        Workload(m.loaders(), m.Net).make_model()


def test_a_factory_of_data_is_not_called_for_a_message():
    def never():
        raise AssertionError("called")

    with pytest.raises(ModelError, match="<lambda> is not a LightningModule: it returns NoneType"):
        Workload(lambda: None, never).make_model()


def test_a_type_error_of_the_users_own_is_not_taken_for_missing_arguments():
    def factory():
        return len(3)

    with pytest.raises(TypeError, match="has no len"):
        Workload(factory).make_model()


def test_data_may_come_in_each_form_that_a_trainer_takes():
    train, val = m.loaders()
    module = m.Data()
    assert Workload(m.Net).make_data() == {}
    assert type(Workload(m.Net, module).make_data()["datamodule"]) is m.Data
    assert isinstance(Workload(m.Net, m.Data).make_data()["datamodule"], m.Data)
    assert isinstance(Workload(m.Net, lambda: m.Data()).make_data()["datamodule"], m.Data)
    assert set(Workload(m.Net, m.loaders).make_data()) == {"train_dataloaders", "val_dataloaders"}
    assert set(Workload(m.Net, (train, val)).make_data()) == {"train_dataloaders", "val_dataloaders"}
    assert set(Workload(m.Net, train).make_data()) == {"train_dataloaders"}
    assert list(Workload(m.Net, {"a": train, "b": val}).make_data()["train_dataloaders"]) == ["a", "b"]


def test_data_that_cannot_be_used_are_refused():
    with pytest.raises(ModelError, match=r"data must be a pair \(train, val\) of loaders, got 3 objects"):
        Workload(m.Net, (1, 2, 3)).make_data()
    with pytest.raises(ModelError, match=r"got 1 object\.$"):
        Workload(m.Net, (1,)).make_data()
    with pytest.raises(ModelError, match=r"the data WideData cannot be made without arguments .*'folder'"):
        Workload(m.Net, WideData).make_data()


def order(loader):
    return [x for batch in loader for x in batch.tolist()]


def test_each_attempt_draws_the_same_from_a_loader_with_its_own_generator():
    loader = DataLoader(range(9), shuffle=True, generator=torch.Generator().manual_seed(3))
    workload = Workload(m.Net, loader)
    first, second = (workload.make_data()["train_dataloaders"] for _ in range(2))
    assert first.dataset is loader.dataset
    assert order(first) == order(second)
    assert order(first) != order(first)


def test_a_loader_whose_workers_persist_is_copied_without_them():
    loader = DataLoader(range(4), num_workers=1, persistent_workers=True)
    assert order(loader) == [0, 1, 2, 3]
    assert order(Workload(m.Net, loader).make_data()["train_dataloaders"]) == [0, 1, 2, 3]


def test_a_loader_that_cannot_be_copied_is_used_as_it_is():
    class Locked(list):
        lock = None

        def __init__(self, *items):
            super().__init__(*items)
            self.lock = threading.Lock()

    loader = DataLoader(range(4), sampler=Locked([1, 3]))
    assert Workload(m.Net, loader).make_data()["train_dataloaders"] is loader
