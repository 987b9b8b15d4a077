"""Settings for all tests."""

import os

# before torch is imported: results that depend on the number of threads are not the same twice
os.environ["OMP_NUM_THREADS"] = "1"
# of how Lightning uses jsonargparse
os.environ["JSONARGPARSE_DEPRECATION_WARNINGS"] = "off"

import pytest


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _packages_asked_once() -> None:
    from tests.support.packages import ask_once

    ask_once()


def pytest_configure(config: pytest.Config) -> None:
    # Lightning's own use of torch; its advice for machines with many cores, and for loggers in short epochs
    config.addinivalue_line("filterwarnings", "ignore:.*LeafSpec.*deprecated:FutureWarning")
    config.addinivalue_line("filterwarnings", "ignore:.*does not have many workers:UserWarning")
    config.addinivalue_line("filterwarnings", "ignore:.*is smaller than the logging interval:UserWarning")
