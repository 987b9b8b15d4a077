"""An LSTM on the same text as the transformer: Adam, SGD or RMSprop, with the clipping searched as well.

python examples/lstm.py
"""

import argparse

import lightning
import torch
from language_model import CHARACTERS, loaders
from torch import nn

import opttune


class CharacterLstm(lightning.LightningModule):
    """One recurrent layer over ASCII characters."""

    def __init__(self, width: int = 96) -> None:
        super().__init__()
        self.embed = nn.Embedding(CHARACTERS, width)
        self.lstm = nn.LSTM(width, width, batch_first=True)
        self.head = nn.Linear(width, CHARACTERS)

    def loss(self, batch):
        (text,) = batch
        hidden, _ = self.lstm(self.embed(text[:, :-1]))
        return nn.functional.cross_entropy(self.head(hidden).transpose(1, 2), text[:, 1:])

    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.loss(batch))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max-steps", type=int, default=200)
    parser.add_argument("--budget", type=float, default=10)
    options = parser.parse_args()

    result = opttune.search(CharacterLstm, loaders, space="rnn", max_steps=options.max_steps, budget=options.budget)
    print(f"val_loss {result.best_value:.4f}, baseline {result.baseline_value:.4f} with {result.replaced}")
    print(result.best_recipe)


if __name__ == "__main__":
    main()
