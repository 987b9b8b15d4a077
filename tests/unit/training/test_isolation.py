import logging
import os
import random
import signal
import threading
import warnings

import lightning.fabric.utilities.warnings
import lightning_fabric.utilities.warnings
import numpy as np
import pytest
import torch
from lightning.pytorch import seed_everything

from opttune.training.isolation import isolated

NAMES = ("lightning.pytorch", "lightning.fabric", "pytorch_lightning", "lightning_fabric")


def draw():
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_the_same_seed_draws_the_same():
    with isolated(3):
        first = draw()
    with isolated(3):
        assert draw() == first
    with isolated(4):
        assert draw() != first


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_the_random_states_are_put_back(error):
    seed_everything(1, verbose=False)
    expected = draw()
    seed_everything(1, verbose=False)
    run_isolated(error)
    assert draw() == expected


def run_isolated(error):
    """Draw some numbers in isolation, and end with an error."""
    try:
        with isolated(3):
            draw()
            if error:
                raise error
    except (ValueError, KeyboardInterrupt):
        pass


@pytest.mark.parametrize("before", [None, "17"])
def test_the_environment_is_put_back(monkeypatch, before):
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.delenv(name, raising=False)
        if before:
            monkeypatch.setenv(name, before)
    with isolated(3):
        assert (os.environ["PL_GLOBAL_SEED"], os.environ["PL_SEED_WORKERS"]) == ("3", "1")
    assert [os.environ.get(name) for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")] == [before, before]


def test_the_handler_of_ctrl_c_is_put_back():
    before = signal.getsignal(signal.SIGINT)
    with isolated(3):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGINT) is before


def test_it_works_outside_the_main_thread():
    done = []
    thread = threading.Thread(target=lambda: (run_isolated(None), done.append(True)))
    thread.start()
    thread.join()
    assert done == [True]


@pytest.mark.parametrize("name", NAMES)
def test_lightning_is_quiet_and_its_levels_are_put_back(name):
    logger = logging.getLogger(name)
    before = logger.level
    with isolated(3):
        assert logger.getEffectiveLevel() == logging.WARNING
    assert logger.level == before


@pytest.mark.parametrize("namespace", [lightning.fabric, lightning_fabric])
def test_advice_of_both_namespaces_is_silenced_and_other_warnings_are_not(namespace):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with isolated(3):
            warnings.warn("many workers", namespace.utilities.warnings.PossibleUserWarning, stacklevel=1)
            with pytest.raises(UserWarning, match="of the user's own"):
                warnings.warn("of the user's own", UserWarning, stacklevel=1)
