"""Modules as people write them: with several optimizers, under manual optimization, or with an optimizer of their own.

Each has its own optimizer at a sensible rate, and trains in a few dozen steps on the CPU.
"""

from collections import deque
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytorch_lightning
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cosine_similarity, mse_loss
from torch.utils.data import DataLoader, IterableDataset, TensorDataset


def points(count: int = 128) -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, 8, generator=generator)
    return TensorDataset(x, 2 * x[:, :1] + torch.sin(3 * x[:, 1:2]))


def loaders() -> tuple[DataLoader[Any], DataLoader[Any]]:
    return DataLoader(points(), 16, shuffle=True), DataLoader(points(32), 16)


def _mlp(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 16), nn.ReLU(), nn.Linear(16, outputs))


class _Gan:
    """The GAN of Lightning's documentation."""

    def __init__(self, generator_lr: float = 2e-3, discriminator_lr: float = 2e-3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.generator, self.discriminator = _mlp(4, 8), _mlp(8, 1)

    def forward(self, z: Tensor) -> Tensor:
        return self.generator(z)

    def adversarial_loss(self, fake: Tensor, is_real: float) -> Tensor:
        return binary_cross_entropy_with_logits(fake, torch.full_like(fake, is_real))

    def training_step(self, batch: Any, batch_idx: int) -> None:
        real, _ = batch
        optimizer_g, optimizer_d = self.optimizers()
        z = torch.randn(len(real), 4).type_as(real)

        self.toggle_optimizer(optimizer_g)
        g_loss = self.adversarial_loss(self.discriminator(self(z)), 1.0)
        self.log("g_loss", g_loss, prog_bar=True)
        self.manual_backward(g_loss)
        optimizer_g.step()
        optimizer_g.zero_grad()
        self.untoggle_optimizer(optimizer_g)

        self.toggle_optimizer(optimizer_d)
        real_loss = self.adversarial_loss(self.discriminator(real), 1.0)
        fake_loss = self.adversarial_loss(self.discriminator(self(z).detach()), 0.0)
        d_loss = (real_loss + fake_loss) / 2
        self.log("d_loss", d_loss, prog_bar=True)
        self.manual_backward(d_loss)
        optimizer_d.step()
        optimizer_d.zero_grad()
        self.untoggle_optimizer(optimizer_d)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        real, _ = batch
        fake = self(torch.randn(len(real), 4, generator=torch.Generator().manual_seed(batch_idx)))
        distance = mse_loss(fake.mean(0), real.mean(0)) + mse_loss(fake.std(0), real.std(0))
        self.log("val_loss", distance)

    def configure_optimizers(self) -> Any:
        betas = (0.5, 0.999)
        optimizer_g = torch.optim.Adam(self.generator.parameters(), lr=self.hparams.generator_lr, betas=betas)
        optimizer_d = torch.optim.Adam(self.discriminator.parameters(), lr=self.hparams.discriminator_lr, betas=betas)
        return [optimizer_g, optimizer_d], []


class Gan(_Gan, pl.LightningModule):
    """Two Adams under manual optimization."""


class OtherGan(_Gan, pytorch_lightning.LightningModule):
    """The same under the name `pytorch_lightning`."""


class SlowGan(Gan):
    """Its generator's rate is ten times too low."""

    def __init__(self) -> None:
        super().__init__(generator_lr=2e-4)


class SchedulingGan(Gan):
    """It steps its own two schedulers, one after each batch, the other after each epoch."""

    def training_step(self, batch: Any, batch_idx: int) -> None:
        super().training_step(batch, batch_idx)
        scheduler_g, scheduler_d = self.lr_schedulers()
        scheduler_g.step()
        if self.trainer.is_last_batch:
            scheduler_d.step()

    def configure_optimizers(self) -> Any:
        optimizers, _ = super().configure_optimizers()
        return optimizers, [
            torch.optim.lr_scheduler.ExponentialLR(optimizers[0], 0.98),
            torch.optim.lr_scheduler.StepLR(optimizers[1], 1, 0.7),
        ]


class Accumulating(pl.LightningModule):
    """One optimizer, which it steps itself every second batch, with gradients that it clips."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.net = _mlp(8, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        optimizer = self.optimizers()
        loss = mse_loss(self.net(x), y)
        self.manual_backward(loss / 2)
        if (batch_idx + 1) % 2 == 0:
            self.clip_gradients(optimizer, gradient_clip_val=0.5, gradient_clip_algorithm="norm")
            optimizer.step()
            optimizer.zero_grad()
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", mse_loss(self.net(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


class Corridor:
    """An environment: walk to the right end of a corridor."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.at = 0.0

    def reset(self) -> list[float]:
        self.at = float(self.rng.uniform(-1, 1))
        return [self.at, 1.0]

    def step(self, action: int) -> tuple[list[float], float, bool]:
        self.at += (0.2 if action else -0.2) + 0.02 * float(self.rng.normal())
        is_over = abs(self.at) > 1
        return [self.at, 1.0], float(self.at > 1) - 0.01, is_over


class ReplayBuffer:
    """The last transitions."""

    def __init__(self, capacity: int) -> None:
        self.buffer: deque[Any] = deque(maxlen=capacity)

    def append(self, experience: Any) -> None:
        self.buffer.append(experience)

    def sample(self, size: int) -> list[Any]:
        return [self.buffer[index] for index in np.random.choice(len(self.buffer), size, replace=False)]


class Experiences(IterableDataset[Any]):
    """Samples of a replay buffer that grows meanwhile."""

    def __init__(self, buffer: ReplayBuffer, size: int) -> None:
        self.buffer, self.size = buffer, size

    def __iter__(self) -> Iterator[Any]:
        for state, action, reward, is_over, after in self.buffer.sample(self.size):
            yield np.float32(state), action, np.float32(reward), is_over, np.float32(after)


class Dqn(pl.LightningModule):
    """The deep Q network of Lightning's examples: a target network, a replay buffer, and its own loader."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.target_net = _mlp(2, 2), _mlp(2, 2)
        self.env, self.buffer = Corridor(), ReplayBuffer(200)
        self.state = self.env.reset()
        self.total_reward = 0.0
        for _ in range(64):
            self.play(epsilon=1.0)

    @torch.no_grad()
    def play(self, epsilon: float) -> float:
        if np.random.random() < epsilon:
            action = int(np.random.randint(2))
        else:
            action = int(self.net(torch.tensor([self.state])).argmax())
        after, reward, is_over = self.env.step(action)
        self.buffer.append((self.state, action, reward, is_over, after))
        self.state = self.env.reset() if is_over else after
        return reward

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        states, actions, rewards, is_over, after = batch
        self.total_reward += self.play(epsilon=max(0.1, 1 - self.global_step / 20))
        values = self.net(states).gather(1, actions[:, None])[:, 0]
        with torch.no_grad():
            following = self.target_net(after).max(1).values.masked_fill(is_over, 0.0)
        loss = mse_loss(values, rewards + 0.9 * following)
        if self.global_step % 5 == 0:
            self.target_net.load_state_dict(self.net.state_dict())
        self.log_dict({"loss": loss, "total_reward": self.total_reward})
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        values = self.net(batch[0])
        self.log("val_loss", mse_loss(values[:, 1] - values[:, 0], torch.full((len(values),), 0.3)))

    def train_dataloader(self) -> Any:
        return DataLoader(Experiences(self.buffer, 64), batch_size=16)

    def val_dataloader(self) -> Any:
        where = torch.linspace(-1, 1, 16)
        return DataLoader(TensorDataset(torch.stack([where, torch.ones(16)], 1)), 16)

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.net.parameters(), lr=1e-2)


class ActorCritic(pl.LightningModule):
    """An actor that is stepped every third time that its critic is, over a batch of states."""

    def __init__(self, actor_lr: float = 1e-2) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.actor_lr = actor_lr
        self.actor, self.critic = _mlp(8, 1), _mlp(9, 1)

    def reward(self, states: Tensor, actions: Tensor) -> Tensor:
        return -((actions - states[:, :1]) ** 2)

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        states, _ = batch
        actor_optimizer, critic_optimizer = self.optimizers()
        actions = self.actor(states).detach() + 0.3 * torch.randn(len(states), 1)
        critic_loss = mse_loss(self.critic(torch.cat([states, actions], 1)), self.reward(states, actions))
        critic_optimizer.zero_grad()
        self.manual_backward(critic_loss)
        critic_optimizer.step()
        if batch_idx % 3 == 0:
            self.toggle_optimizer(actor_optimizer)
            actor_loss = -self.critic(torch.cat([states, self.actor(states)], 1)).mean()
            actor_optimizer.zero_grad()
            self.manual_backward(actor_loss)
            actor_optimizer.step()
            self.untoggle_optimizer(actor_optimizer)
            self.log("actor_loss", actor_loss)
        self.log("critic_loss", critic_loss)
        return {"loss": critic_loss}

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", -self.reward(batch[0], self.actor(batch[0])).mean())

    def configure_optimizers(self) -> Any:
        return (
            torch.optim.Adam(self.actor.parameters(), lr=self.actor_lr),
            torch.optim.Adam(self.critic.parameters(), lr=1e-2),
        )


class Byol(pl.LightningModule):
    """Two views, and a momentum encoder that no optimizer holds."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.predictor = _mlp(8, 8), _mlp(8, 8)
        self.teacher = deepcopy(self.encoder)
        self.teacher.requires_grad_(False)
        self.tau = 0.9

    def similarity(self, one: Tensor, other: Tensor) -> Tensor:
        return 1 - cosine_similarity(self.predictor(self.encoder(one)), self.teacher(other).detach()).mean()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, _ = batch
        one, other = x + 0.1 * torch.randn_like(x), x + 0.1 * torch.randn_like(x)
        loss = self.similarity(one, other) + self.similarity(other, one)
        self.log("train_loss", loss)
        return loss

    def on_train_batch_end(self, *_: Any) -> None:
        self.tau = min(0.99, self.tau + 0.001)
        with torch.no_grad():
            for kept, new in zip(self.teacher.parameters(), self.encoder.parameters(), strict=True):
                kept.mul_(self.tau).add_(new, alpha=1 - self.tau)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.similarity(batch[0], batch[0].flip(0)))

    def configure_optimizers(self) -> Any:
        learned = [*self.encoder.parameters(), *self.predictor.parameters()]
        return torch.optim.SGD(learned, lr=0.05, momentum=0.9, weight_decay=1e-4)


class SignDescent(torch.optim.Optimizer):
    """An optimizer that only its author knows: steps along the sign of an average of the gradients."""

    def __init__(self, params: Any, lr: float = 1e-3, decay: float = 0.9) -> None:
        super().__init__(params, {"lr": lr, "decay": decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                average = self.state[weight].setdefault("average", torch.zeros_like(weight))
                average.lerp_(weight.grad, 1 - group["decay"])
                weight.add_(average.sign(), alpha=-group["lr"])
        return loss


class _Regressor(pl.LightningModule):
    """Automatic optimization, with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = nn.Sequential(_mlp(8, 16), nn.ReLU(), nn.Dropout(0.1)), nn.Linear(16, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = mse_loss(self.head(self.backbone(batch[0])), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", mse_loss(self.head(self.backbone(batch[0])), batch[1]))


class OwnClass(_Regressor):
    """Its optimizer's class is its own."""

    def configure_optimizers(self) -> Any:
        return SignDescent(self.parameters(), lr=3e-3)


class TwoRates(_Regressor):
    """A backbone at a hundredth of the head's rate."""

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(
            [
                {"params": self.backbone.parameters(), "lr": 1e-4, "weight_decay": 0.0},
                {"params": self.head.parameters(), "lr": 1e-2},
            ]
        )


class OneCycle(_Regressor):
    """OneCycleLR at every step, as long as the Trainer says."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.02, momentum=0.9)
        steps = int(self.trainer.estimated_stepping_batches)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class Plateau(_Regressor):
    """A plateau after each validation."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=2e-2)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.3, patience=0)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "val_loss"}}


MANUAL = (Gan, OtherGan, SchedulingGan, Accumulating, ActorCritic)
AUTOMATIC = (Dqn, Byol, OwnClass, TwoRates, OneCycle, Plateau)
EVERY = (*MANUAL, *AUTOMATIC)
STEPS = {Gan: 40, OtherGan: 40, SchedulingGan: 40, Accumulating: 20, ActorCritic: 43}
"""Full lengths, as the Trainer counts; 32 where there is none. One is in the midst of a batch's steps."""


def steps_of(model: type) -> int:
    return STEPS.get(model, 32)


def optimizers_of(model: type) -> int:
    return 2 if issubclass(model, _Gan | ActorCritic) else 1


def data_of(model: type) -> Any:
    """Return the data of a module, None where it has its own."""
    return None if model is Dqn else loaders
