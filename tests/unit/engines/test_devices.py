from typing import Any

import pytest
import torch

from opttune.engines.devices import (
    count_processes,
    devices_per_trial,
    require_devices,
    share_devices,
    sharing_words,
    visible_devices,
    without_spawning,
    worker_environments,
)
from opttune.errors import InputError


@pytest.fixture
def four_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def devices_of(workers: int, trainer: dict[str, Any]) -> list[str | None]:
    return [environment.get("CUDA_VISIBLE_DEVICES") for environment in worker_environments(workers, trainer)]


@pytest.mark.usefixtures("four_gpus")
@pytest.mark.parametrize(
    ("workers", "trainer", "expected"),
    [
        (2, {}, ["0", "1"]),
        (6, {}, ["0", "1", "2", "3", "0", "1"]),
        (2, {"devices": 2}, ["0,1", "2,3"]),
        (3, {"devices": "2"}, ["0,1", "2,3", "0,1"]),
        (2, {"devices": 3}, ["0,1,2", "0,1,2"]),
        (2, {"devices": [0, 3]}, ["0,1", "2,3"]),
        (1, {"devices": -1}, ["0,1,2,3"]),
        (1, {"devices": "auto"}, ["0,1,2,3"]),
        (2, {"accelerator": "cpu"}, [None, None]),
        (2, {"accelerator": "cpu", "devices": 2}, [None, None]),
    ],
)
def test_devices_are_handed_out_in_turn(workers: int, trainer: dict[str, Any], expected: list[str | None]) -> None:
    assert devices_of(workers, trainer) == expected


@pytest.mark.usefixtures("four_gpus")
def test_only_the_devices_that_this_process_may_use_are_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5, 7")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    assert visible_devices({}) == ["5", "7"]
    assert devices_of(3, {}) == ["5", "7", "5"]


def test_more_devices_than_there_are_are_refused() -> None:
    with pytest.raises(InputError, match="asks for 3 devices, and there are 2"):
        share_devices(1, 3, ["0", "1"])


def test_a_search_asks_for_one_device_by_itself() -> None:
    assert devices_per_trial({"accelerator": "cpu"}) == 1


@pytest.mark.parametrize(
    ("arguments", "processes"),
    [
        ({}, 1),
        ({"devices": 1}, 1),
        ({"devices": "auto", "accelerator": "cpu"}, 1),
        ({"devices": 2, "accelerator": "cpu"}, 2),
        ({"devices": 3, "accelerator": "cpu", "strategy": "ddp_spawn"}, 3),
        # what no Trainer takes, the Trainer of the training refuses
        ({"devices": 2, "accelerator": "abacus"}, 1),
    ],
    ids=str,
)
def test_the_processes_of_a_trainer_are_counted(arguments, processes):
    assert count_processes(arguments) == processes


def test_several_machines_are_refused():
    with pytest.raises(InputError, match="devices of one machine, got num_nodes=2"):
        count_processes({"devices": 2, "num_nodes": 2})


@pytest.mark.parametrize(
    ("given", "used"), [("ddp_spawn", "ddp"), ("ddp_fork", "ddp"), ("ddp", "ddp"), ("fsdp", "fsdp"), ("auto", "auto")]
)
def test_what_spawns_is_exchanged(given, used):
    assert without_spawning({"strategy": given, "devices": 2}) == {"strategy": used, "devices": 2}


def test_other_strategies_stay():
    strategy = object()
    assert without_spawning({"strategy": strategy}) == {"strategy": strategy}
    assert without_spawning({"max_steps": 3}) == {"max_steps": 3}


@pytest.mark.parametrize(
    ("trainer", "words"),
    [
        ({"accelerator": "gpu"}, ["accelerator='gpu' is not available", "No supported gpu backend", "accelerator=cpu"]),
        ({"accelerator": "cuda", "devices": 2}, ["accelerator='cuda', devices=2", "not available", "devices=1"]),
        ({"accelerator": "cpu", "devices": 0}, ["devices=0"]),
    ],
)
def test_devices_that_are_not_there_are_refused_with_what_is(
    monkeypatch: pytest.MonkeyPatch, trainer: dict[str, Any], words: list[str]
) -> None:
    # a machine with a GPU has another answer
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(InputError) as raised:
        require_devices(trainer)

    assert not [word for word in words if word not in str(raised.value)], str(raised.value)


def test_what_is_there_may_be_asked_for() -> None:
    for trainer in ({}, {"accelerator": "auto"}, {"accelerator": "cpu", "devices": 2}, {"precision": "bf16-mixed"}):
        require_devices(trainer)


@pytest.mark.usefixtures("four_gpus")
@pytest.mark.parametrize(
    ("workers", "trainer", "words"),
    [
        (4, {}, []),
        (4, {"accelerator": "cpu"}, []),
        (9, {}, ["9 workers share 4 GPUs, up to 3 on one", "1/3 of its memory", "--workers 4"]),
        (3, {"devices": 2}, ["up to 2 on one", "--workers 2"]),
    ],
)
def test_workers_that_share_a_device_are_told_of(workers: int, trainer: dict[str, Any], words: list[str]) -> None:
    said = sharing_words(workers, trainer)

    assert bool(said) == bool(words)
    assert all(word in said for word in words)


@pytest.mark.usefixtures("four_gpus")
def test_all_workers_number_the_devices_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    assert worker_environments(2, {})[0]["CUDA_DEVICE_ORDER"] == "FASTEST_FIRST"
    # as Lightning does in this process when it trains
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert worker_environments(2, {})[1]["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert "CUDA_DEVICE_ORDER" not in worker_environments(2, {"accelerator": "cpu"})[0]
