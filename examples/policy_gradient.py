"""A policy gradient (REINFORCE) that learns to balance a pole: Adam or RMSprop, judged by the return.

python examples/policy_gradient.py
"""

import argparse
import math

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader

import opttune

HORIZON, POLES = 100, 32


class Poles:
    """Many carts with a pole each, after Barto, Sutton and Anderson (1983); a pole that has fallen stays down."""

    def __init__(self) -> None:
        self.state = torch.rand(POLES, 4) * 0.1 - 0.05
        self.up = torch.ones(POLES)

    def push(self, right: torch.Tensor) -> torch.Tensor:
        """Push each cart, and return 1 for each pole that is still up."""
        _, speed, angle, spin = self.state.unbind(1)
        force = 20.0 * right - 10.0
        pushed = (force + 0.05 * spin**2 * angle.sin()) / 1.1
        turn = (9.8 * angle.sin() - angle.cos() * pushed) / (0.5 * (4 / 3 - 0.1 * angle.cos() ** 2 / 1.1))
        moved = torch.stack((speed, pushed - 0.05 * turn * angle.cos() / 1.1, spin, turn), 1)
        self.state = self.state + 0.02 * moved
        self.up = self.up * (self.state[:, 0].abs() < 2.4) * (self.state[:, 2].abs() < math.radians(12))
        return self.up


class PolicyGradient(lightning.LightningModule):
    """A small network that says how likely a push to the right is."""

    def __init__(self) -> None:
        super().__init__()
        self.policy = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 1))

    def episode(self):
        """Return the log-probabilities of the pushes, and the rewards."""
        poles, logs, rewards = Poles(), [], []
        for _ in range(HORIZON):
            choice = torch.distributions.Bernoulli(logits=self.policy(poles.state).squeeze(1))
            right = choice.sample()
            logs.append(choice.log_prob(right))
            rewards.append(poles.push(right))
        return torch.stack(logs), torch.stack(rewards)

    def training_step(self, batch, batch_idx):
        logs, rewards = self.episode()
        to_come = rewards.flip(0).cumsum(0).flip(0)
        advantage = (to_come - to_come.mean(1, keepdim=True)) / (to_come.std() + 1e-6)
        was_up = torch.cat((torch.ones_like(rewards[:1]), rewards[:-1]))
        return -(logs * advantage * was_up).sum() / was_up.sum()

    def validation_step(self, batch, batch_idx):
        # the same poles in every validation
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.log("mean_return", self.episode()[1].sum(0).mean(), batch_size=1)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-4)


def loaders() -> tuple[DataLoader, DataLoader]:
    """Return loaders that only count: the data come out of the episodes."""
    return DataLoader(range(1000)), DataLoader(range(4))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max-steps", type=int, default=120)
    parser.add_argument("--budget", type=float, default=10)
    options = parser.parse_args()

    result = opttune.search(
        PolicyGradient,
        loaders,
        space="rl",
        monitor="mean_return",
        mode="max",
        max_steps=options.max_steps,
        budget=options.budget,
        guard=False,  # the loss of a policy gradient says nothing of how well it does
    )
    print(f"mean_return {result.best_value:.1f} of {HORIZON}, baseline {result.baseline_value:.1f}")
    print(result.best_recipe)


if __name__ == "__main__":
    main()
