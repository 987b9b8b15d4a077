"""Figures of what steps cost: written, read back and put into words."""

from dataclasses import replace
from pathlib import Path

from opttune.catalog.optimizers import OPTIMIZERS
from opttune.catalog.recorded_costs import CostTable, RecordedCost, read_costs, recorded_costs, write_costs

CPU = CostTable(
    "cpu", "a processor, one thread", "a small model", 1234567, 61.2, 0.874,
    {"soap": RecordedCost(3.25, 3.1, 3.4, 2.5)}, {"adamw_8bit": "opttune[8bit] was not installed"},
)  # fmt: skip
GPU = replace(CPU, device="gpu", costs={"soap": RecordedCost(1.5, 1.4, 1.6, 1.75)}, left_out={})


def test_a_device_is_written_beside_the_others_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    assert read_costs(path) == ()

    write_costs(path, GPU)
    write_costs(path, replace(CPU, adamw_ms=1.0))
    write_costs(path, CPU)

    assert read_costs(path) == (CPU, GPU)


def test_the_words_name_the_device_the_size_and_the_spread() -> None:
    assert CPU.words == (
        "Measured on a CPU (a processor, one thread) with a small model, 1,234,567 parameters: AdamW's step took "
        "61.2 ms, 87% of it without any optimizer."
    )
    assert CPU.cost_words("soap") == "3.25 x AdamW's (3.10 to 3.40), 2.50 x its peak memory on a CPU"
    assert GPU.cost_words("soap") == "1.50 x AdamW's (1.40 to 1.60), 1.75 x its peak memory on a GPU"
    assert CPU.cost_words("adamw_8bit") == "not measured on a CPU: opttune[8bit] was not installed"
    assert CPU.cost_words("mine") == ""


def test_the_recorded_figures_are_of_optimizers_that_there_are() -> None:
    names = {info.name for info in OPTIMIZERS}

    assert recorded_costs()
    for table in recorded_costs():
        assert {*table.costs, *table.left_out} <= names
        assert table.parameters >= 1_000_000
        assert 0 < table.bare < 1
