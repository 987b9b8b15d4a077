"""Handwritten digits: a small classifier whose own optimizer is a poor choice, and a search for a better one.

From the command line, which is the main job:

    opttune search examples/digits.py:DigitsClassifier examples/digits.py:digits_loaders --max-steps 300 --budget 12

From Python, the same search and then a training with what it found:

    python examples/digits.py
"""

import argparse
import os

import lightning
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import opttune


class DigitsClassifier(lightning.LightningModule):
    """Two hidden layers over 8 x 8 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))

    def training_step(self, batch, batch_idx):
        images, labels = batch
        loss = nn.functional.cross_entropy(self.layers(images), labels)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        images, labels = batch
        logits = self.layers(images)
        self.log("val_loss", nn.functional.cross_entropy(logits, labels))
        self.log("val_accuracy", (logits.argmax(dim=1) == labels).float().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-3)  # far too small: opttune finds better


def digits_loaders() -> tuple[DataLoader, DataLoader]:
    """Return loaders of 1,437 images to train on and 360 to validate on."""
    digits = load_digits()
    images = torch.tensor(digits.data / 16, dtype=torch.float32)
    labels = torch.tensor(digits.target)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    train, val = order[360:], order[:360]
    return (
        DataLoader(TensorDataset(images[train], labels[train]), batch_size=64, shuffle=True),
        DataLoader(TensorDataset(images[val], labels[val]), batch_size=360),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max-steps", type=int, default=300)
    parser.add_argument("--budget", type=float, default=12)
    options = parser.parse_args()

    result = opttune.search(DigitsClassifier, digits_loaders, max_steps=options.max_steps, budget=options.budget)
    print(f"val_loss {result.best_value:.4f}, baseline {result.baseline_value:.4f}")
    print(result.best_recipe)

    # train once more with the winner: the same seed and length give the same value
    recipe_file = os.path.join("opttune_runs", "DigitsClassifier-auto", "best_recipe.yaml")
    lightning.seed_everything(0, workers=True)
    model = DigitsClassifier()
    train, val = digits_loaders()
    trainer = lightning.Trainer(
        max_steps=options.max_steps,
        callbacks=[opttune.RecipeCallback(recipe_file)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, train, val)
    print(f"trained again: val_loss {trainer.callback_metrics['val_loss']:.4f}")


if __name__ == "__main__":
    main()
