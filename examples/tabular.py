"""A table of 442 patients: a small network predicts how their diabetes progresses, and overfits if trained too hard.

python examples/tabular.py
"""

import argparse

import lightning
import torch
from sklearn.datasets import load_diabetes
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import opttune


class TableNet(lightning.LightningModule):
    """Two hidden layers with dropout over ten columns."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        hidden = []
        for inputs in (10, width):
            hidden += [nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(0.1)]
        self.layers = nn.Sequential(*hidden, nn.Linear(width, 1))

    def training_step(self, batch, batch_idx):
        columns, target = batch
        return nn.functional.mse_loss(self.layers(columns), target)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.training_step(batch, batch_idx))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def loaders() -> tuple[DataLoader, DataLoader]:
    """Return loaders of 342 patients to train on and 100 to validate on; the loss is in variances of the target."""
    table = load_diabetes(scaled=False)
    columns = torch.tensor(table.data, dtype=torch.float32)
    target = torch.tensor(table.target, dtype=torch.float32).unsqueeze(1)
    order = torch.randperm(len(columns), generator=torch.Generator().manual_seed(0))
    train, val = order[100:], order[:100]
    # the validation must not be seen in the scales
    columns = (columns - columns[train].mean(0)) / columns[train].std(0)
    target = (target - target[train].mean(0)) / target[train].std(0)
    return (
        DataLoader(TensorDataset(columns[train], target[train]), batch_size=32, shuffle=True),
        DataLoader(TensorDataset(columns[val], target[val]), batch_size=100),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max-steps", type=int, default=300)
    parser.add_argument("--budget", type=float, default=10)
    options = parser.parse_args()

    result = opttune.search(TableNet, loaders, space="small_data", max_steps=options.max_steps, budget=options.budget)
    print(f"val_loss {result.best_value:.4f}, baseline {result.baseline_value:.4f} with {result.replaced}")
    print(result.best_recipe)


if __name__ == "__main__":
    main()
