"""Small networks that the benchmark pretrains itself: a transformer once a machine, a ResNet once a process."""

import hashlib
import inspect
import os
import sys
import sysconfig
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from search_bench import long_data, long_networks
from search_bench.long_data import halves_of_digits, text_windows
from search_bench.long_networks import GPT, Trunk, resnet
from search_bench.tasks import token_loss

STEPS, BATCH, WINDOW = 2_000, 16, 33
RESNET_STEPS = 600
SHAPE = {"width": 48, "layers": 2, "heads": 4, "window": 32}
READ = (
    "configparser", "difflib", "enum", "ipaddress", "locale", "mailbox", "optparse", "pathlib", "pickle", "subprocess",
)  # fmt: skip
"""Modules of Python that it has read: none of those that it is fine-tuned on."""


def pretrained_trunk() -> Trunk:
    """Return a new network with the pretrained weights; what it draws on the way is the same for all seeds."""
    with torch.random.fork_rng():
        trunk = Trunk(**SHAPE)
    trunk.load_state_dict(_weights())
    return trunk


def pretrained_resnet() -> nn.Module:
    """Return a ResNet that knows the digits 0 to 4, with a new head for five classes.

    What it draws for the trunk is the same for all seeds.
    """
    with torch.random.fork_rng():
        network = resnet(classes=5)
    network.load_state_dict(_weights_of_resnet())
    network[-1].reset_parameters()
    return network


@cache
def _weights_of_resnet() -> dict[str, Tensor]:
    pixels, labels, *_ = halves_of_digits()[0]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = resnet(classes=5)
        optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
        for _ in range(RESNET_STEPS):
            batch = torch.randint(len(labels), (64,))
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(pixels[batch]), labels[batch]).backward()
            optimizer.step()
    return network.state_dict()


@cache
def _weights() -> dict[str, Tensor]:
    path = Path(tempfile.gettempdir()) / f"opttune-benchmark-{_key()}.pt"
    if not path.exists():
        weights = _pretrain()
        # another process may do the same: the weights appear whole or not at all
        own = path.with_suffix(f".{os.getpid()}")
        torch.save(weights, own)
        own.replace(path)
    loaded: dict[str, Tensor] = torch.load(path, weights_only=True)
    return loaded


def _key() -> str:
    """Return a name for all that the weights depend on."""
    sources = [inspect.getsource(module) for module in (long_networks, long_data, sys.modules[__name__])]
    return hashlib.sha256("".join([torch.__version__, sys.version, *sources]).encode()).hexdigest()[:12]


def _pretrain() -> dict[str, Any]:
    """Predict the next character of Python's own modules."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return _trained(GPT(**SHAPE))
    finally:
        torch.set_num_threads(threads)


def _trained(network: GPT) -> dict[str, Any]:
    folder = Path(sysconfig.get_paths()["stdlib"])
    windows = torch.cat([text_windows((folder / f"{name}.py").read_bytes(), WINDOW) for name in READ])
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, STEPS, pct_start=0.1)
    for _ in range(STEPS):
        batch = windows[torch.randint(len(windows), (BATCH,))]
        optimizer.zero_grad()
        token_loss(network(batch[:, :-1]), batch[:, 1:]).backward()
        optimizer.step()
        schedule.step()
    return network.trunk.state_dict()
