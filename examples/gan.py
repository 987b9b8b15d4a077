"""A small GAN on made-up points, under manual optimization: its two Adams stay, and the search moves their rates.

The generator makes points in the plane, the discriminator tells them from those of a ring. The authors' learning rate
of the discriminator is too low. The space that opttune takes for a module with several optimizers moves both rates
together and, from a budget of 10 on, the second one alone.

python examples/gan.py
"""

import argparse
import math

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import opttune

POINTS, CORNERS, LATENT, BATCH = 2048, 8, 8, 128


def make_points(count: int, seed: int) -> torch.Tensor:
    """Return points around the corners of a regular octagon."""
    random = torch.Generator().manual_seed(seed)
    angles = torch.randint(CORNERS, (count,), generator=random) * (2 * math.pi / CORNERS)
    return torch.stack((angles.cos(), angles.sin()), 1) + 0.05 * torch.randn(count, 2, generator=random)


def energy_distance(made: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Return how far two clouds of points are apart: 0 where they are drawn alike."""
    return 2 * torch.cdist(made, real).mean() - torch.cdist(made, made).mean() - torch.cdist(real, real).mean()


class Gan(lightning.LightningModule):
    """Two small networks with an optimizer each, stepped in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator = nn.Sequential(nn.Linear(LATENT, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
        self.discriminator = nn.Sequential(
            nn.Linear(2, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1)
        )
        # the same latent points in every validation
        latents = torch.randn(1024, LATENT, generator=torch.Generator().manual_seed(1))
        self.register_buffer("latents", latents)

    def training_step(self, batch, batch_idx):
        (real,) = batch
        of_generator, of_discriminator = self.optimizers()
        made = self.generator(torch.randn(len(real), LATENT, device=self.device))

        told = self.discriminator(torch.cat((real, made.detach())))
        truth = torch.cat((torch.ones_like(told[: len(real)]), torch.zeros_like(told[len(real) :])))
        self.step(of_discriminator, nn.functional.binary_cross_entropy_with_logits(told, truth))

        told = self.discriminator(made)
        self.step(of_generator, nn.functional.binary_cross_entropy_with_logits(told, torch.ones_like(told)))

    def step(self, optimizer, loss: torch.Tensor) -> None:
        """Step one of the networks."""
        self.toggle_optimizer(optimizer)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        self.untoggle_optimizer(optimizer)

    def validation_step(self, batch, batch_idx):
        self.log("val_distance", energy_distance(self.generator(self.latents), batch[0]))

    def configure_optimizers(self):
        return [
            torch.optim.Adam(self.generator.parameters(), lr=1e-3, betas=(0.5, 0.999)),
            torch.optim.Adam(self.discriminator.parameters(), lr=1e-4, betas=(0.5, 0.999)),
        ]


def point_loaders() -> tuple[DataLoader, DataLoader]:
    """Return loaders of points to train on, and of others to compare with."""
    train, val = TensorDataset(make_points(POINTS, 0)), TensorDataset(make_points(1024, 1))
    return DataLoader(train, batch_size=BATCH, shuffle=True), DataLoader(val, batch_size=1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max-steps", type=int, default=800)
    parser.add_argument("--budget", type=float, default=12)
    options = parser.parse_args()

    result = opttune.search(
        Gan,
        point_loaders,
        monitor="val_distance",
        max_steps=options.max_steps,  # the steps of both optimizers together
        budget=options.budget,
        trainer={"accelerator": "cpu"},
    )
    print(f"val_distance {result.best_value:.4f}, baseline {result.baseline_value:.4f}")
    print(result.best_recipe)


if __name__ == "__main__":
    main()
