"""A Hydra project in the shape of the widely used Lightning-Hydra template, as a user's files."""

from pathlib import Path

FILES = {
    ".project-root": "",
    "src/__init__.py": "",
    "src/data/__init__.py": "",
    "src/data/points.py": """
import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, TensorDataset


class PointsDataModule(pl.LightningDataModule):
    def __init__(self, data_dir: str, batch_size: int = 16, count: int = 96):
        super().__init__()
        self.save_hyperparameters(logger=False)

    def setup(self, stage=None):
        x = torch.randn(self.hparams.count, 8, generator=torch.Generator().manual_seed(0))
        self.points = TensorDataset(x, (x[:, :4].sum(1) > x[:, 4:].sum(1)).long())

    def train_dataloader(self):
        return DataLoader(self.points, batch_size=self.hparams.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.points, batch_size=self.hparams.batch_size)
""",
    "src/models/__init__.py": "",
    "src/models/net.py": """
import lightning.pytorch as pl
import torch


class Dense(torch.nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(8, width), torch.nn.ReLU(), torch.nn.Linear(width, 2))

    def forward(self, x):
        return self.layers(x)


class LitModule(pl.LightningModule):
    def __init__(self, net, optimizer, scheduler, compile: bool):
        super().__init__()
        self.save_hyperparameters(logger=False, ignore=["net"])
        self.net = net

    def training_step(self, batch, batch_idx):
        loss = torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log("train/loss", loss, on_step=False, on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch, batch_idx):
        logits = self.net(batch[0])
        self.log("val/loss", torch.nn.functional.cross_entropy(logits, batch[1]))
        self.log("val/acc", (logits.argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        optimizer = self.hparams.optimizer(params=self.trainer.model.parameters())
        if self.hparams.scheduler is None:
            return {"optimizer": optimizer}
        scheduler = self.hparams.scheduler(optimizer=optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "val/loss"}}
""",
    "src/train.py": """
import hydra
import lightning.pytorch as pl


@hydra.main(version_base="1.3", config_path="../configs", config_name="train.yaml")
def main(cfg):
    raise AssertionError("opttune does not run the script")


if __name__ == "__main__":
    main()
""",
    "configs/train.yaml": """
# @package _global_
defaults:
  - _self_
  - data: points
  - model: net
  - callbacks: default
  - logger: null
  - trainer: default
  - paths: default
  - hydra: default
  - experiment: null
  - optional local: default
task_name: train
tags: [dev]
train: true
test: true
ckpt_path: null
seed: 3
""",
    "configs/data/points.yaml": """
_target_: src.data.points.PointsDataModule
data_dir: ${paths.data_dir}
batch_size: 16
""",
    "configs/model/net.yaml": """
_target_: src.models.net.LitModule
optimizer: {_target_: torch.optim.Adam, _partial_: true, lr: 0.0001, weight_decay: 0.0}
scheduler: {_target_: torch.optim.lr_scheduler.ReduceLROnPlateau, _partial_: true, mode: min, factor: 0.1}
net: {_target_: src.models.net.Dense, width: 12}
compile: false
""",
    "configs/callbacks/default.yaml": """
defaults: [model_checkpoint, early_stopping, _self_]
model_checkpoint: {dirpath: "${paths.output_dir}/checkpoints"}
""",
    "configs/callbacks/model_checkpoint.yaml": """
model_checkpoint:
  _target_: lightning.pytorch.callbacks.ModelCheckpoint
  dirpath: null
  monitor: val/acc
  mode: max
  save_last: true
""",
    "configs/callbacks/early_stopping.yaml": """
early_stopping: {_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: val/acc, mode: max, patience: 100}
""",
    "configs/logger/csv.yaml": """
csv: {_target_: lightning.pytorch.loggers.csv_logs.CSVLogger, save_dir: "${paths.output_dir}"}
""",
    "configs/trainer/default.yaml": """
_target_: lightning.pytorch.trainer.Trainer
default_root_dir: ${paths.output_dir}
min_epochs: 1
max_epochs: 3
accelerator: cpu
devices: 1
check_val_every_n_epoch: 1
deterministic: false
""",
    "configs/paths/default.yaml": """
root_dir: ${oc.env:PROJECT_ROOT}
data_dir: ${paths.root_dir}/data/
log_dir: ${paths.root_dir}/logs/
output_dir: ${hydra:runtime.output_dir}
work_dir: ${hydra:runtime.cwd}
""",
    "configs/hydra/default.yaml": """
run: {dir: "${paths.log_dir}/${task_name}/runs/${now:%Y-%m-%d}"}
""",
    "configs/experiment/wide.yaml": """
# @package _global_
model: {net: {width: 20}}
trainer: {max_epochs: 2, gradient_clip_val: 0.5}
""",
}


def write_hydra_project(folder: Path) -> None:
    """Write the project's files into a folder."""
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.lstrip())
