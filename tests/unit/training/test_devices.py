import pytest

from opttune.errors import InputError
from opttune.training.devices import count_processes, in_processes_of_their_own


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
    assert in_processes_of_their_own({"strategy": given, "devices": 2}) == {"strategy": used, "devices": 2}


def test_other_strategies_stay():
    strategy = object()
    assert in_processes_of_their_own({"strategy": strategy}) == {"strategy": strategy}
    assert in_processes_of_their_own({"max_steps": 3}) == {"max_steps": 3}
