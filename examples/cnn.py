"""A small convolutional network on handwritten digits: SGD with momentum, multistep or cosine.

python examples/cnn.py
"""

import argparse

import lightning
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import opttune


class DigitsCnn(lightning.LightningModule):
    """Three convolutions with batch norm over 8 x 8 pixels."""

    def __init__(self) -> None:
        super().__init__()
        blocks = []
        for inputs, outputs in ((1, 16), (16, 32), (32, 32)):
            blocks += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        self.layers = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 10))

    def training_step(self, batch, batch_idx):
        images, labels = batch
        return nn.functional.cross_entropy(self.layers(images), labels)

    def validation_step(self, batch, batch_idx):
        images, labels = batch
        logits = self.layers(images)
        self.log("val_loss", nn.functional.cross_entropy(logits, labels))
        self.log("val_accuracy", (logits.argmax(dim=1) == labels).float().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)


def loaders() -> tuple[DataLoader, DataLoader]:
    """Return loaders of 1,297 images to train on and 500 to validate on."""
    digits = load_digits()
    images = torch.tensor(digits.images / 16, dtype=torch.float32).unsqueeze(1)
    labels = torch.tensor(digits.target)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    train, val = order[500:], order[:500]
    return (
        DataLoader(TensorDataset(images[train], labels[train]), batch_size=64, shuffle=True),
        DataLoader(TensorDataset(images[val], labels[val]), batch_size=500),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max-steps", type=int, default=200)
    parser.add_argument("--budget", type=float, default=12)
    options = parser.parse_args()

    result = opttune.search(DigitsCnn, loaders, space="vision_sgd", max_steps=options.max_steps, budget=options.budget)
    print(f"val_loss {result.best_value:.4f}, baseline {result.baseline_value:.4f} with {result.replaced}")
    print(result.best_recipe)


if __name__ == "__main__":
    main()
