"""A small transformer that the benchmark pretrains itself, once a machine."""

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
from torch import Tensor

from search_bench import long_data, long_networks
from search_bench.long_data import text_windows
from search_bench.long_networks import GPT, Trunk
from search_bench.tasks import token_loss

STEPS, BATCH, WINDOW = 2_000, 16, 33
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
