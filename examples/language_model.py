"""A transformer that predicts the next character of Python's own library: AdamW or Muon, warmup-cosine or WSD.

python examples/language_model.py
"""

import argparse
import sysconfig
from pathlib import Path

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import opttune

SPACE = Path(__file__).parent / "spaces" / "language_model.yaml"
CONTEXT, CHARACTERS = 64, 128


class CharacterTransformer(lightning.LightningModule):
    """Two causal layers over ASCII characters."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.embed = nn.Embedding(CHARACTERS, width)
        self.position = nn.Parameter(torch.randn(CONTEXT, width) * 0.02)
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, CHARACTERS)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(CONTEXT), persistent=False)

    def loss(self, batch):
        (text,) = batch
        hidden = self.layers(self.embed(text[:, :-1]) + self.position, mask=self.mask, is_causal=True)
        return nn.functional.cross_entropy(self.head(hidden).transpose(1, 2), text[:, 1:])

    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.loss(batch))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=3e-4)


def library_text(files: int = 60) -> torch.Tensor:
    """Return the first sources of Python's library, whole files in the order of their names, as one long text."""
    library = Path(sysconfig.get_path("stdlib"))
    text = "".join(path.read_text(errors="ignore") for path in sorted(library.glob("*.py"))[:files])
    return torch.tensor([min(ord(character), CHARACTERS - 1) for character in text])


def loaders() -> tuple[DataLoader, DataLoader]:
    """Return loaders of pieces of text; the last tenth is to validate on."""
    text = library_text()
    pieces = text[: len(text) // (CONTEXT + 1) * (CONTEXT + 1)].reshape(-1, CONTEXT + 1)
    border = len(pieces) * 9 // 10
    return (
        DataLoader(TensorDataset(pieces[:border]), batch_size=32, shuffle=True, drop_last=True),
        DataLoader(TensorDataset(pieces[border:][:512]), batch_size=256),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max-steps", type=int, default=200)
    parser.add_argument("--budget", type=float, default=8)
    options = parser.parse_args()

    result = opttune.search(
        CharacterTransformer, loaders, space=SPACE, max_steps=options.max_steps, budget=options.budget
    )
    print(f"val_loss {result.best_value:.4f}, baseline {result.baseline_value:.4f} with {result.replaced}")
    print(result.best_recipe)


if __name__ == "__main__":
    main()
