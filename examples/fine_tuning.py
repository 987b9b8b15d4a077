"""Fine-tuning: how much slower must a pretrained network learn than its new head? The search finds the ratio.

A small network learns to read 1,000 handwritten digits. It is then fine-tuned, with a new head, to count the closed
loops of a digit (0 has one, 8 has two) from 80 images. In `spaces/fine_tuning.yaml` the rate of the backbone is a
multiple of the head's, from 0.01 to 1; the search is repeated without it. Each of the two best recipes is then trained
on seeds that no search has seen.

python examples/fine_tuning.py
"""

import argparse
import functools
from dataclasses import replace
from pathlib import Path

import lightning
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import opttune

SPACE = Path(__file__).parent / "spaces" / "fine_tuning.yaml"
LOOPS = torch.tensor([1, 0, 0, 0, 1, 0, 1, 0, 2, 1])
"""Digit -> its closed loops, a 4 counted as closed."""
PRETRAINED = 1000
LABELLED = 8


def make_backbone() -> nn.Sequential:
    """Return two convolutions and a hidden layer over 8 x 8 pixels."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(512, 64),
        nn.ReLU(),
    )


@functools.cache
def read_images() -> tuple[torch.Tensor, torch.Tensor]:
    """Return all images and their digits, in a random order."""
    digits = load_digits()
    order = torch.randperm(len(digits.target), generator=torch.Generator().manual_seed(0))
    images = torch.tensor(digits.images / 16, dtype=torch.float32)[:, None]
    return images[order], torch.tensor(digits.target)[order]


@functools.cache
def pretrained() -> dict[str, torch.Tensor]:
    """Return the weights of a backbone that has learned to read digits."""
    images, digits = (tensor[:PRETRAINED] for tensor in read_images())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone, head = make_backbone(), nn.Linear(64, 10)
        optimizer = torch.optim.AdamW([*backbone.parameters(), *head.parameters()], lr=2e-3)
        for _ in range(400):
            batch = torch.randint(len(images), (64,))
            loss = nn.functional.cross_entropy(head(backbone(images[batch])), digits[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return backbone.state_dict()


class LoopCounter(lightning.LightningModule):
    """The pretrained backbone with a new head."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = make_backbone(), nn.Linear(64, 3)
        self.backbone.load_state_dict(pretrained())

    def training_step(self, batch, batch_idx):
        images, loops = batch
        return nn.functional.cross_entropy(self.head(self.backbone(images)), loops)

    def validation_step(self, batch, batch_idx):
        images, loops = batch
        self.log("val_loss", nn.functional.cross_entropy(self.head(self.backbone(images)), loops))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def loop_loaders() -> tuple[DataLoader, DataLoader]:
    """Return loaders of 8 images of each digit to train on, and of the 717 others that the backbone has not seen."""
    images, digits = (tensor[PRETRAINED:] for tensor in read_images())
    labelled = torch.cat([torch.nonzero(digits == digit)[:LABELLED, 0] for digit in range(10)])
    others = torch.ones(len(digits), dtype=torch.bool)
    others[labelled] = False
    loops = LOOPS[digits]
    return (
        DataLoader(TensorDataset(images[labelled], loops[labelled]), batch_size=32, shuffle=True),
        DataLoader(TensorDataset(images[others], loops[others]), batch_size=1000),
    )


def train_again(recipe: opttune.Recipe, seed: int, max_steps: int) -> float:
    """Return the validation loss of a recipe with another seed."""
    lightning.seed_everything(seed, verbose=False)
    model = LoopCounter()
    trainer = lightning.Trainer(
        max_steps=max_steps,
        callbacks=[opttune.RecipeCallback(recipe)],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, *loop_loaders())
    return float(trainer.callback_metrics["val_loss"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max-steps", type=int, default=150)
    parser.add_argument("--budget", type=float, default=10)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()

    varied = opttune.load_space(SPACE)
    spaces = {"one_rate": replace(varied, group_fields=()), "backbone_and_head": varied}
    seeds = range(1, options.seeds + 1)
    losses = {}
    for name, space in spaces.items():
        result = opttune.search(
            LoopCounter,
            loop_loaders,
            space=space,
            max_steps=options.max_steps,
            budget=options.budget,
            study=name,
            trainer={"accelerator": "cpu"},
        )
        losses[name] = [train_again(result.best_recipe, seed, options.max_steps) for seed in seeds]
        print(f"{name:17} val_loss {result.best_value:.3f} in the search, {mean(losses[name]):.3f} on new seeds")
        print(f"    {result.best_recipe}")
    gains = [one - two for one, two in zip(*losses.values(), strict=True)]
    print(f"with two rates the loss is lower on {sum(gain > 0 for gain in gains)} of {options.seeds} new seeds", end="")
    print(f", by {mean(gains):.3f} on average")
    print("value over the ratio: opttune_runs/backbone_and_head/report.html and value_over_groups.png")


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


if __name__ == "__main__":
    main()
