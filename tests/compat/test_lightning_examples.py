"""Modules in the shape of Lightning's own examples (`examples/pytorch`), searched to a recipe."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import BaseFinetuning
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset, random_split

from opttune.study.result import SearchResult
from tests.support.searches import run_search


@pytest.fixture(autouse=True)
def _lightnings_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def found(folder: Path, model: Any, **settings: Any) -> SearchResult:
    """Search for a recipe, and see that each trial trained."""
    result = run_search(folder, model, **{"max_steps": 32, "budget": 3, **settings})
    assert result.best_recipe is not None
    assert result.best_value is not None
    assert result.baseline_value is not None
    assert "fail" not in set(result.trials["state"])
    return result


def pictures(count: int, channels: int = 1, size: int = 8) -> Tensor:
    """Return pictures with a bright square at one of four places; the first pixel row is dark."""
    random = torch.Generator().manual_seed(0)
    made = 0.1 * torch.rand(count, channels, size, size, generator=random)
    for index in range(count):
        top, left = (index % 2) * 4, (index // 2 % 2) * 4
        made[index, :, top + 1 : top + 4, left : left + 3] += 0.8
    return made


class PictureData(pl.LightningDataModule):
    """The parts are split once, in `__init__`, and cut from one data set."""

    def __init__(self, batch_size: int = 16) -> None:
        super().__init__()
        everything = TensorDataset(pictures(96), torch.arange(96) % 4)
        self.rest = TensorDataset(pictures(16), torch.arange(16) % 4)
        self.train_part, self.val_part = random_split(everything, [64, 32], torch.Generator().manual_seed(1))
        self.batch_size = batch_size

    def train_dataloader(self) -> Any:
        return DataLoader(self.train_part, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(self.val_part, batch_size=self.batch_size)

    def test_dataloader(self) -> Any:
        return DataLoader(self.rest, batch_size=self.batch_size)

    def predict_dataloader(self) -> Any:
        return DataLoader(self.rest, batch_size=self.batch_size)


class Autoencoder(pl.LightningModule):
    def __init__(self, hidden: int = 4, learning_rate: float = 1e-5) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.encoder = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, hidden))
        self.decoder = nn.Sequential(nn.Linear(hidden, 32), nn.ReLU(), nn.Linear(32, 64))
        self.example_input_array = torch.zeros(1, 64)

    def forward(self, flat: Tensor) -> Tensor:
        return self.decoder(self.encoder(flat))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self._shared(batch, "train")

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self._shared(batch, "val")

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        return self(batch[0].flatten(1))

    def _shared(self, batch: Any, name: str) -> Tensor:
        flat = batch[0].flatten(1)
        loss = functional.mse_loss(self(flat), flat)
        self.log(f"{name}_loss", loss, on_step=name == "train", on_epoch=True, prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=self.hparams.learning_rate)


class PictureSampler(pl.Callback):
    """Draws what the decoder makes of points of the code, after each second epoch, for a logger that takes pictures."""

    def __init__(self, points: int = 4) -> None:
        self.points = points
        self.drawn: list[int] = []

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch % 2:
            return
        codes = torch.randn(self.points, pl_module.hparams.hidden, device=pl_module.device)
        pl_module.eval()
        with torch.no_grad():
            made = pl_module.decoder(codes).reshape(self.points, 1, 8, 8)
        pl_module.train()
        self.drawn.append(trainer.current_epoch)
        trainer.logger.experiment.add_image("samples", torch.cat(list(made), dim=1), global_step=trainer.global_step)


@pytest.mark.slow
def test_an_autoencoder_whose_callback_draws_samples(tmp_path: Path) -> None:
    trainer = {"callbacks": [PictureSampler()]}
    result = found(tmp_path, Autoencoder, data=PictureData, trainer=trainer)
    assert result.best_value < result.baseline_value


class Backbone(nn.Module):
    def __init__(self, hidden: int = 16) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, hidden), nn.Linear(hidden, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.second(torch.relu(self.first(x.flatten(1)))))


class BackboneClassifier(pl.LightningModule):
    """Takes a module as an argument, which it keeps out of the hyperparameters."""

    def __init__(self, backbone: nn.Module | None = None, learning_rate: float = 1e-5) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["backbone"])
        self.backbone = backbone or Backbone()

    def forward(self, x: Tensor) -> Tensor:
        return self.backbone(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, label = batch
        loss = functional.cross_entropy(self(x), label)
        self.log("train_loss", loss, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, label = batch
        self.log("valid_loss", functional.cross_entropy(self(x), label), on_step=True)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        x, label = batch
        self.log("test_loss", functional.cross_entropy(self(x), label))

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=self.hparams.learning_rate)


@pytest.mark.parametrize("instance", [False, True], ids=["class", "instance"])
def test_a_classifier_around_a_backbone(instance: bool, tmp_path: Path) -> None:
    model = BackboneClassifier(Backbone(32)) if instance else BackboneClassifier
    # logged at each batch of a validation, too: the metric of the whole validation has another name
    found(tmp_path, model, data=PictureData, monitor="valid_loss_epoch")


class Text(Dataset[tuple[Tensor, Tensor]]):
    """Windows of a text that repeats itself, and the same one further on."""

    def __init__(self, length: int = 16, windows: int = 64) -> None:
        text = "a tuned recipe is a recipe that was tried and kept\n" * 8
        self.vocabulary = {letter: index for index, letter in enumerate(sorted(set(text)))}
        self.tokens = torch.tensor([self.vocabulary[letter] for letter in text])
        self.length, self.windows = length, windows

    def __len__(self) -> int:
        return self.windows

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        end = index + self.length
        return self.tokens[index:end], self.tokens[index + 1 : end + 1]


class LanguageModel(pl.LightningModule):
    """Its layers are made in `__init__`; its mask in the first batch, as a plain attribute."""

    def __init__(self, vocabulary_size: int, width: int = 16) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, width)
        self.places = nn.Parameter(0.1 * torch.randn(16, width))
        layer = nn.TransformerEncoderLayer(width, 2, 32, dropout=0.1, batch_first=True)
        self.body = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.decoder = nn.Linear(width, vocabulary_size)
        self.mask: Tensor | None = None

    def forward(self, tokens: Tensor) -> Tensor:
        if self.mask is None:
            self.mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1], device=tokens.device)
        hidden = self.body(self.embedding(tokens) + self.places, mask=self.mask)
        return functional.log_softmax(self.decoder(hidden), dim=-1)

    def _loss(self, batch: Any) -> Tensor:
        tokens, target = batch
        return functional.nll_loss(self(tokens).flatten(0, 1), target.flatten())

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = self._loss(batch)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = self._loss(batch)
        self.log("val_loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1e-4)


def test_a_transformer_that_models_a_text(tmp_path: Path) -> None:
    text = Text()
    train, val = random_split(text, [48, 16], torch.Generator().manual_seed(0))
    loaders = (DataLoader(train, batch_size=8, shuffle=True), DataLoader(val, batch_size=8))
    result = found(tmp_path, lambda: LanguageModel(len(text.vocabulary)), data=loaders)
    assert result.best_value < result.baseline_value


class ThawAtMilestones(BaseFinetuning):
    """Thaws the last layers at the first milestone and the rest at the second, each in a group of its own."""

    def __init__(self, milestones: tuple[int, int] = (2, 4), bn_frozen: bool = True) -> None:
        super().__init__()
        self.milestones, self.bn_frozen = milestones, bn_frozen

    def freeze_before_training(self, pl_module: Any) -> None:
        self.freeze(pl_module.extractor, train_bn=not self.bn_frozen)

    def finetune_function(self, pl_module: Any, epoch: int, optimizer: Any) -> None:
        layers = list(pl_module.extractor)
        if epoch == self.milestones[0]:
            self.unfreeze_and_add_param_group(layers[-3:], optimizer=optimizer, train_bn=not self.bn_frozen)
        elif epoch == self.milestones[1]:
            self.unfreeze_and_add_param_group(layers[:-3], optimizer=optimizer, train_bn=not self.bn_frozen)


class TransferNet(pl.LightningModule):
    def __init__(self, learning_rate: float = 1e-3, gamma: float = 0.1, milestones: tuple[int, int] = (2, 4)) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.extractor = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
            nn.Conv2d(4, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Sequential(nn.Linear(72, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.extractor(x).flatten(1)).squeeze(1)

    def _loss(self, batch: Any) -> Tensor:
        x, label = batch
        return functional.binary_cross_entropy_with_logits(self(x), (label % 2).float())

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self._loss(batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self._loss(batch))

    def configure_optimizers(self) -> Any:
        # the optimizer holds what is not frozen when it is made
        trainable = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = torch.optim.Adam(trainable, lr=self.hparams.learning_rate)
        scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(self.hparams.milestones), self.hparams.gamma)
        return [optimizer], [scheduler]


@pytest.mark.parametrize("bn_frozen", [True, False])
def test_a_network_that_is_thawed_at_milestones(bn_frozen: bool, tmp_path: Path) -> None:
    trainer = {"callbacks": [ThawAtMilestones(bn_frozen=bn_frozen)]}
    found(tmp_path, TransferNet, data=PictureData, trainer=trainer)


class Block(nn.Sequential):
    def __init__(self, before: int, after: int) -> None:
        super().__init__(nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(inplace=True))


class SmallUNet(nn.Module):
    """Halves and doubles the picture, with a bridge between."""

    def __init__(self, classes: int, width: int = 4) -> None:
        super().__init__()
        self.enter, self.down, self.up = Block(3, width), Block(width, 2 * width), Block(3 * width, width)
        self.leave = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.enter(x)
        coarse = functional.interpolate(self.down(functional.max_pool2d(fine, 2)), scale_factor=2.0, mode="bilinear")
        return self.leave(self.up(torch.cat([fine, coarse], dim=1)))


class Streets(Dataset[tuple[Tensor, Tensor]]):
    """Pictures and masks, where the unlabelled edge is to be ignored."""

    def __init__(self, count: int) -> None:
        self.pictures = pictures(count, channels=3)
        self.masks = (self.pictures.mean(1) > 0.5).long()
        self.masks[:, 0] = 250

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.pictures[index], self.masks[index]


class SegmentationModel(pl.LightningModule):
    """Brings its loaders along, and returns a dictionary from its validation."""

    def __init__(self, batch_size: int = 8, lr: float = 1e-5, **network: Any) -> None:
        super().__init__()
        self.batch_size, self.learning_rate = batch_size, lr
        self.net = SmallUNet(classes=2, **network)
        self.train_part, self.val_part = Streets(48), Streets(16)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        picture, mask = batch
        loss = functional.cross_entropy(self(picture.float()), mask, ignore_index=250)
        self.log("train_loss", loss, prog_bar=True)
        return {"loss": loss}

    def validation_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        picture, mask = batch
        loss = functional.cross_entropy(self(picture.float()), mask, ignore_index=250)
        self.log("val_loss", loss, prog_bar=True)
        return {"val_loss": loss}

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.net.parameters(), lr=self.learning_rate)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)]

    def train_dataloader(self) -> Any:
        return DataLoader(self.train_part, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(self.val_part, batch_size=self.batch_size, shuffle=False)


def test_a_segmentation_model_with_its_own_loaders(tmp_path: Path) -> None:
    result = found(tmp_path, SegmentationModel)
    assert result.best_value < result.baseline_value
