"""The classic table on MNIST, each line trained from a recipe file, and what a search finds beyond it.

A perceptron of 784-128-64-10, 5 epochs, batches of 64. The data are the four idx files, gzipped or not, as
torchvision downloads them:

    python examples/mnist_table.py --data-dir data/MNIST/raw

The search sees the training images only: it trains on 50,000 and looks at the other 10,000. What it finds is
then trained on all 60,000, as the table's lines are, and tested once.
"""

import argparse
import gzip
import logging
import math
import warnings
from pathlib import Path

import lightning
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler, TensorDataset

import opttune

RECIPES = Path(__file__).parent / "recipes"
BATCH = 64
TABLE = (  # line, recipe file, published test accuracy in percent
    ("SGD 0.01", "mnist_sgd.yaml", 93.6),
    ("Adam 1e-3", "mnist_adam.yaml", 97.4),
    ("AdamW 1e-3", "mnist_adamw.yaml", 97.6),
    ("AdamW 1e-3, cosine", "mnist_adamw_cosine.yaml", 97.8),
)


class MnistPerceptron(lightning.LightningModule):
    """Two hidden layers over 28 x 28 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))

    def training_step(self, batch, batch_idx):
        images, labels = batch
        return nn.functional.cross_entropy(self.layers(images), labels)

    def validation_step(self, batch, batch_idx):
        self._log_metrics(batch, "val")

    def test_step(self, batch, batch_idx):
        self._log_metrics(batch, "test")

    def _log_metrics(self, batch, stage):
        images, labels = batch
        logits = self.layers(images)
        self.log(f"{stage}_loss", nn.functional.cross_entropy(logits, labels))
        self.log(f"{stage}_accuracy", (logits.argmax(dim=1) == labels).float().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)  # the table's first line


def read_idx(path: Path) -> torch.Tensor:
    """Read an idx file of bytes: two zeros, type, number of dimensions, sizes (big-endian), data."""
    zipped = path.with_name(path.name + ".gz")
    if not path.exists() and not zipped.exists():
        raise SystemExit(f"{path.name} is not in {path.parent}, and {zipped.name} neither: is --data-dir right?")
    data = path.read_bytes() if path.exists() else gzip.decompress(zipped.read_bytes())
    if data[:3] != b"\0\0\x08":
        raise SystemExit(f"{path} is no idx file of bytes.")
    start = 4 + 4 * data[3]
    shape = [int.from_bytes(data[at : at + 4], "big") for at in range(4, start, 4)]
    if len(data) - start != math.prod(shape):
        raise SystemExit(f"{path} says {shape} and holds {len(data) - start} bytes.")
    return torch.frombuffer(bytearray(data[start:]), dtype=torch.uint8).reshape(shape)


def read_images(data_dir: Path, prefix: str, limit: int | None) -> TensorDataset:
    """Return the first images and labels of `train` or `t10k`, scaled to mean 0 and deviation 1."""
    images = read_idx(data_dir / f"{prefix}-images-idx3-ubyte")[:limit]
    labels = read_idx(data_dir / f"{prefix}-labels-idx1-ubyte")[:limit]
    return TensorDataset((images.flatten(1).float() / 255 - 0.1307) / 0.3081, labels.long())


def loader(data: TensorDataset, shuffle: bool = False) -> DataLoader:
    """Return a loader that takes a whole batch out of the tensors at once, far faster than image by image."""
    order = RandomSampler(data) if shuffle else SequentialSampler(data)
    size = BATCH if shuffle else 1000
    return DataLoader(data, sampler=BatchSampler(order, size, drop_last=False), batch_size=None)


def test_accuracy(recipe, train: TensorDataset, test: TensorDataset, options: argparse.Namespace) -> float:
    """Train with a recipe or a recipe file and return the accuracy on the test images in percent."""
    lightning.seed_everything(options.seed, workers=True, verbose=False)
    trainer = lightning.Trainer(
        max_epochs=options.epochs,
        callbacks=[opttune.RecipeCallback(recipe)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model = MnistPerceptron()
    trainer.fit(model, loader(train, shuffle=True))
    return 100 * trainer.test(model, loader(test), verbose=False)[0]["test_accuracy"]


def search(train: TensorDataset, options: argparse.Namespace) -> opttune.SearchResult:
    """Search with a sixth of the training images held out; the test images stay unseen."""
    images, labels = train.tensors
    held_out = len(images) // 6
    fit = TensorDataset(images[held_out:], labels[held_out:])
    val = TensorDataset(images[:held_out], labels[:held_out])
    return opttune.search(
        MnistPerceptron,
        lambda: (loader(fit, shuffle=True), loader(val)),
        monitor="val_accuracy",
        mode="max",
        max_epochs=options.epochs,
        budget=options.budget,
        seed=options.seed,
        study=f"mnist-{options.epochs}-epochs-seed-{options.seed}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True, help="folder with the four idx files")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--budget", type=float, default=8, help="cost of the search in full trainings")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="use only this many images of each kind")
    options = parser.parse_args()
    # Lightning's messages on each training would hide the table
    logging.disable(logging.INFO)
    warnings.filterwarnings("ignore", module="lightning.pytorch")

    train = read_images(options.data_dir, "train", options.limit)
    test = read_images(options.data_dir, "t10k", options.limit)
    print(f"{len(train)} images, {options.epochs} epochs, tested on {len(test)}\n")
    print(f"{'':20}{'here':>8}{'published':>12}")
    for line, recipe_file, published in TABLE:
        accuracy = test_accuracy(RECIPES / recipe_file, train, test, options)
        print(f"{line:20}{accuracy:7.2f}%{published:11.1f}%", flush=True)

    result = search(train, options)
    found = test_accuracy(result.best_recipe, train, test, options)
    print(f"{'found by the search':20}{found:7.2f}%\n")
    print(f"{result.best_recipe}, held-out accuracy {100 * result.best_value:.2f}%")
    print(f"(SGD 0.01 in the same search: {100 * result.baseline_value:.2f}%)")


if __name__ == "__main__":
    main()
