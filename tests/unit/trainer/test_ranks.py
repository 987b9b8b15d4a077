import os
from pathlib import Path

import pytest
import torch

from opttune.trainer.ranks import SharedDecision, from_rank_zero, of_all_ranks
from tests.support import models as m
from tests.support.ranks import run_ranks
from tests.support.searches import command_env
from tests.support.warm import WarmProcess

TIMES = int(os.environ.get("OPTTUNE_RANK_TIMES", "1"))
"""How often two ranks are stopped; by hand 20."""


def test_a_single_rank_decides_for_itself():
    trainer = m.quiet_trainer()
    assert [SharedDecision().share(trainer, stop) for stop in (True, False)] == [True, False]
    assert from_rank_zero(trainer, "its own") == "its own"
    assert of_all_ranks(trainer, 3) == [3]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "ddp_spawn"])
def test_two_ranks_stop_at_the_same_step_and_both_know_why(tmp_path: Path, strategy: str):
    ran = run_ranks(tmp_path, strategy, "guard", TIMES)
    # losses are read every five steps
    assert ran.steps == [[10] * TIMES] * 2
    assert ran.found == [[["non_finite", 7]] * TIMES] * (2 if strategy == "ddp" else 1)


def _decide(rank: int, folder: str) -> None:
    meet = f"file://{folder}/meet"
    torch.distributed.init_process_group("gloo", init_method=meet, rank=rank, world_size=2)

    class Trainer:
        """What a decision asks of one."""

        world_size = 2
        global_rank = rank

        class strategy:  # noqa: N801
            root_device = torch.device("cpu")

    shared, wants = SharedDecision(), [rank == 1, rank == 0, False]
    found = [shared.share(Trainer, want) for want in wants]
    (Path(folder) / f"found{rank}").write_text(repr((found, of_all_ranks(Trainer, rank))))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_of_two_ranks_the_first_decides(tmp_path: Path):
    code = "from tests.unit.trainer.test_ranks import _decide; _decide({}, {!r})"
    ranks = [WarmProcess(["-c", code.format(rank, str(tmp_path))], tmp_path, command_env()) for rank in (0, 1)]
    ended = [rank.communicate() for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], ended
    expected = repr(([False, True, False], [0, 1]))
    assert [(tmp_path / f"found{rank}").read_text() for rank in (0, 1)] == [expected] * 2
