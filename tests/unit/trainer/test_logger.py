"""The logger that takes any call, in real Trainers of both names."""

import copy
import os
import pickle
from pathlib import Path

import pytest
import torch
import torchmetrics

from opttune.trainer.logger import AnyLogger, add_logger
from tests.support import models as m


def use_like_tensorboard(logger, model):
    logger.experiment.add_histogram("weights", model.net[0].weight, 3)
    logger.experiment[0].add_image("image", torch.zeros(3, 4, 4))


def use_like_wandb(logger, model):
    logger.watch(model, log="all")
    logger.log_image(key="samples", images=[torch.zeros(3, 4, 4)], caption=["a"])
    logger.experiment.log({"table": 1}, step=3)
    logger.experiment.config["width"] = 3
    logger.experiment.config.update({"a": 1}, allow_val_change=True)
    logger.experiment.summary["best"] = 1.0
    (Path(logger.experiment.dir) / "note.txt").write_text("")


def use_like_mlflow_and_comet(logger, model):
    logger.experiment.log_artifact(logger.run_id, "file")
    with logger.experiment.validate():
        logger.experiment.log_figure(figure=None)
    for metric in logger.experiment.get_metric_history(logger.run_id, "loss"):
        raise AssertionError(metric)


def use_its_folders(logger, model):
    trainer = model.trainer
    for folder in (logger.log_dir, logger.save_dir, logger.root_dir, trainer.log_dir):
        assert os.listdir(folder) is not None
        assert not Path(folder).samefile(trainer.default_root_dir)
        assert Path(folder).is_relative_to(trainer.default_root_dir)
    (Path(logger.log_dir) / f"{logger.name}{logger.version}.txt").write_text("")


@pytest.mark.parametrize(
    "use",
    [use_like_tensorboard, use_like_wandb, use_like_mlflow_and_comet, use_its_folders],
    ids=lambda use: use.__name__,
)
@pytest.mark.parametrize(("base", "namespace"), [(m.Net, m.pl), (m.OtherNet, m.pytorch_lightning)])
def test_a_module_may_use_its_logger_as_it_likes(use, base, namespace, tmp_path):
    class Logging(base):
        uses = 0

        def on_validation_epoch_end(self):
            assert self.logger is self.trainer.logger
            for logger in self.loggers:
                use(logger, self)
                self.uses += 1

    model = Logging()
    trainer = m.quiet_trainer(namespace=namespace, max_steps=8, default_root_dir=tmp_path)
    add_logger(trainer, model)
    trainer.fit(model, *m.loaders())
    assert model.uses


def test_a_fit_whose_module_asks_for_no_folder_makes_none(tmp_path):
    trainer = m.quiet_trainer(max_steps=2, default_root_dir=tmp_path)
    model = m.Net()
    add_logger(trainer, model)
    trainer.fit(model, *m.loaders())
    assert not list(tmp_path.iterdir())


def test_a_logger_of_the_users_own_stays(tmp_path):
    trainer = m.quiet_trainer(logger=m.pl.loggers.CSVLogger(tmp_path))
    add_logger(trainer, m.Net())
    assert type(trainer.logger).__name__ == "CSVLogger"


class Pair(torchmetrics.Metric):
    """A metric of two numbers."""

    def update(self):
        pass

    def compute(self):
        return torch.zeros(2)


def test_what_a_logger_would_refuse_is_not_delivered(tmp_path):
    class Matrix(m.Net):
        def __init__(self):
            super().__init__()
            self.save_hyperparameters({"batch_size": 1})
            self.pair = Pair()

        def validation_step(self, batch, batch_idx):
            super().validation_step(batch, batch_idx)
            self.pair.update()
            self.log("pair", self.pair)

    class Data(m.Data):
        def __init__(self):
            super().__init__()
            self.save_hyperparameters({"batch_size": 2})

    trainer = m.quiet_trainer(max_steps=2, default_root_dir=tmp_path)
    model = Matrix()
    add_logger(trainer, model)
    trainer.fit(model, Data())
    assert trainer.global_step == 2


def test_a_copy_and_a_pickled_one_are_whole(tmp_path):
    for logger in (copy.deepcopy(AnyLogger(str(tmp_path))), pickle.loads(pickle.dumps(AnyLogger(str(tmp_path))))):
        assert Path(logger.log_dir).is_relative_to(tmp_path)
        assert os.fspath(logger.experiment.dir) == logger.log_dir
