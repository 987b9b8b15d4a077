import lightning.pytorch as pl
import pytest
import pytorch_lightning

from opttune.errors import ModelError
from opttune.trainer.namespaces import AnyCallback, is_data_module, is_mlflow_logger, is_module, trainer_class
from tests.support import models as m


class OtherData(pytorch_lightning.LightningDataModule):
    pass


@pytest.mark.parametrize(("net", "namespace"), [(m.Net, pl), (m.OtherNet, pytorch_lightning)])
def test_a_module_belongs_to_the_trainer_of_its_name(net, namespace):
    assert is_module(net())
    assert trainer_class(net()) is namespace.Trainer


@pytest.mark.parametrize(("net", "namespace"), [(m.Net, pl), (m.OtherNet, pytorch_lightning)])
def test_our_callbacks_are_at_home_in_the_trainers_of_both_names(net, namespace):
    watch = m.Watch()
    assert isinstance(watch, AnyCallback)
    namespace_trainer = m.quiet_trainer(watch, namespace=namespace, max_steps=2)
    namespace_trainer.fit(net(), *m.loaders())
    assert len(watch.lrs) == 2


@pytest.mark.parametrize("thing", [m.Net, 3, None, m.torch.nn.Linear(1, 1), m.Data()])
def test_anything_else_is_no_module(thing):
    assert not is_module(thing)
    with pytest.raises(ModelError, match=f"a model must be a LightningModule, got {type(thing).__name__}"):
        trainer_class(thing)


def test_data_modules_of_both_names_are_known():
    assert is_data_module(m.Data())
    assert is_data_module(OtherData())
    assert not any(map(is_data_module, (m.Data, m.Net(), m.train_loader())))


def test_an_mlflow_logger_is_known_by_its_name_also_as_a_subclass():
    class MLFlowLogger:
        """Lightning's own cannot be made without a tracking server."""

    class Custom(MLFlowLogger):
        pass

    assert is_mlflow_logger(MLFlowLogger())
    assert is_mlflow_logger(Custom())
    assert not is_mlflow_logger(pl.loggers.CSVLogger("."))
