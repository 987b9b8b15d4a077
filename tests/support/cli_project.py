"""A LightningCLI project as people have them, written into a folder: script, module, data and config."""

from pathlib import Path

NETWORK = """
import torch, {namespace} as pl
from torch.utils.data import DataLoader, TensorDataset


class Points(pl.LightningDataModule):
    def __init__(self, count: int = 128, features: int = 8):
        super().__init__()
        self.save_hyperparameters()

    def points(self, seed):
        random = torch.Generator().manual_seed(seed)
        labels = torch.arange(self.hparams.count) % 4
        noise = torch.randn(self.hparams.count, self.hparams.features, generator=random)
        return TensorDataset(torch.nn.functional.one_hot(labels, self.hparams.features) * 2.0 + noise, labels)

    def train_dataloader(self):
        return DataLoader(self.points(0), batch_size=16, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.points(1), batch_size=64)


class Net(pl.LightningModule):
    def __init__(self, features: int, width: int = 16, activation: torch.nn.Module = torch.nn.ReLU()):
        super().__init__()
        self.save_hyperparameters(ignore="activation")
        self.net = torch.nn.Sequential(torch.nn.Linear(features, width), activation, torch.nn.Linear(width, 4))

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.training_step(batch, batch_idx))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-3)
"""

MAIN = """
from {namespace}.cli import LightningCLI
from network import Net, Points


class ProjectCLI(LightningCLI):
    def add_arguments_to_parser(self, parser):
        parser.link_arguments("data.features", "model.features")


def main():
    ProjectCLI(Net, Points, seed_everything_default=7)


if __name__ == "__main__":
    main()
"""

CONFIG = """
model:
  width: 24
  activation: {class_path: torch.nn.Tanh}
data: {count: 96}
trainer:
  max_epochs: 3
  accumulate_grad_batches: 2
  logger: false
  callbacks:
    - class_path: EarlyStopping
      init_args: {monitor: val_loss, patience: 5}
    - class_path: LearningRateMonitor
    - class_path: ModelCheckpoint
      init_args: {monitor: val_loss}
"""

# subclass mode: the config names the classes, and no script is needed
SUBCLASS_CONFIG = """
seed_everything: 3
model:
  class_path: network.Net
  init_args: {features: 8, width: 12}
data:
  class_path: network.Points
trainer: {max_steps: 12}
"""


def write_project(folder: Path, namespace: str = "lightning.pytorch", config: str = CONFIG, main: str = MAIN) -> None:
    """Write the project's files into a folder; without `main` it has no script."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "network.py").write_text(NETWORK.replace("{namespace}", namespace))
    if main:
        (folder / "main.py").write_text(main.replace("{namespace}", namespace))
    (folder / "config.yaml").write_text(config)
