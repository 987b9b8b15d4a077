"""The context of an attempt: one seed, quiet Lightning, and all global state restored afterwards."""

import logging
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import lightning.fabric.utilities.warnings
import lightning_fabric.utilities.warnings
from lightning.pytorch import seed_everything
from lightning.pytorch.utilities.seed import isolate_rng

_LOGGERS = ("lightning.pytorch", "lightning.fabric", "pytorch_lightning", "lightning_fabric")
_ADVICE = (
    lightning.fabric.utilities.warnings.PossibleUserWarning,
    lightning_fabric.utilities.warnings.PossibleUserWarning,
)
_SEED_VARIABLES = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")


@contextmanager
def isolated(seed: int) -> Iterator[None]:
    """Seed everything for one attempt and restore the global state afterwards.

    This restores the global random states, the environment variables of Lightning's seeding, the handler of Ctrl-C
    (Lightning ignores the signal after the first), and the levels of Lightning's loggers, which would otherwise repeat
    their greeting for each attempt.

    Args:
        seed: Seed of initial weights and data order.
    """
    with _kept_random_state(), _kept_environment(), _kept_interrupt_handler(), quiet_lightning():
        seed_everything(seed, workers=True, verbose=False)
        yield


@contextmanager
def _kept_random_state() -> Iterator[None]:
    # Lightning's own context restores nothing after an error
    kept = isolate_rng()
    kept.__enter__()
    try:
        yield
    finally:
        kept.__exit__(None, None, None)


@contextmanager
def _kept_environment() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in _SEED_VARIABLES}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _kept_interrupt_handler() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep Lightning's greetings and its advice on data loaders off the terminal."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        # advice on data loader workers and the like, the same for every attempt
        for advice in _ADVICE:
            warnings.simplefilter("ignore", advice)
        # caused by Lightning's own use of torch
        warnings.filterwarnings("ignore", message=".*LeafSpec.*deprecated", category=FutureWarning)
        # a schedule that is stepped after validations waits for the first one
        warnings.filterwarnings("ignore", message="ReduceLROnPlateau conditioned on metric", category=RuntimeWarning)
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
