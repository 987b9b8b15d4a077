"""The shapes against torch's own schedulers, step by step."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import Optimizer
from torch.optim import lr_scheduler as theirs

from opttune.build.schedule import build_scheduler
from opttune.recipe import Part
from tests.support.schedules import PEAKS, rates, sgd

TOTAL = 40
F64 = torch.float64


def warmed_linear(optimizer: Optimizer) -> Any:
    # LinearLR's first step has factor start_factor; (i + 1) / w is its line from 1 / w
    rise = theirs.LinearLR(optimizer, start_factor=1 / 8, total_iters=7)
    fall = theirs.LinearLR(optimizer, start_factor=1.0, end_factor=0.1, total_iters=TOTAL - 8)
    return theirs.SequentialLR(optimizer, [rise, fall], milestones=[8])


def one_cycle(optimizer: Optimizer) -> Any:
    # torch ends its phases one step early: its rise of (pct * T - 1) of T - 1 steps is ours of 12 of 40
    return theirs.OneCycleLR(
        optimizer,
        max_lr=list(PEAKS),
        total_steps=TOTAL + 1,
        pct_start=13 / 41,
        div_factor=25.0,
        final_div_factor=1e4,
        cycle_momentum=False,
    )


def cyclic(mode: str) -> Callable[[Optimizer], Any]:
    return lambda optimizer: theirs.CyclicLR(
        optimizer,
        [lr * 0.1 for lr in PEAKS],
        list(PEAKS),
        step_size_up=5,
        mode=mode,
        cycle_momentum=False,  # type: ignore[arg-type]
    )


REFERENCES: dict[str, tuple[Part, Callable[[Optimizer], Any], int]] = {
    "constant": (Part("constant"), lambda o: theirs.ConstantLR(o, 1.0), TOTAL),
    "linear": (
        Part("linear", {"final_lr_fraction": 0.2}),
        lambda o: theirs.LinearLR(o, 1.0, 0.2, TOTAL),
        TOTAL,
    ),
    "linear, warmed up": (Part("linear", {"warmup_fraction": 0.2, "final_lr_fraction": 0.1}), warmed_linear, TOTAL),
    "cosine": (Part("cosine"), lambda o: theirs.CosineAnnealingLR(o, TOTAL), TOTAL),
    "polynomial": (Part("polynomial", {"power": 1.5}), lambda o: theirs.PolynomialLR(o, TOTAL, 1.5), TOTAL),
    "step": (Part("step", {"drop_count": 3, "decay_factor": 0.3}), lambda o: theirs.StepLR(o, 10, 0.3), TOTAL - 1),
    "multistep": (
        Part("multistep", {"milestones": (0.3, 0.7), "decay_factor": 0.2}),
        lambda o: theirs.MultiStepLR(o, [12, 28], 0.2),
        TOTAL,
    ),
    "exponential": (
        Part("exponential", {"final_lr_fraction": 0.05}),
        lambda o: theirs.ExponentialLR(o, 0.05 ** (1 / TOTAL)),
        TOTAL,
    ),
    "one_cycle": (Part("one_cycle"), one_cycle, TOTAL - 1),
    "cyclical": (Part("cyclical"), cyclic("triangular"), TOTAL),
    "cyclical, halved": (Part("cyclical", {"cycle_decay": 0.5}), cyclic("triangular2"), TOTAL),
    "cosine_restarts": (
        Part("cosine_restarts", {"cycle_count": 4}),
        lambda o: theirs.CosineAnnealingWarmRestarts(o, 10),
        TOTAL - 1,
    ),
    "cosine_restarts, growing": (
        Part("cosine_restarts", {"cycle_count": 3, "cycle_growth": 3.0}),
        lambda o: theirs.CosineAnnealingWarmRestarts(o, 4, 3),
        4 + 12 + 35,
    ),
    "inverse_sqrt": (
        Part("inverse_sqrt", {"warmup_fraction": 0.2, "timescale_fraction": 0.25}),
        lambda o: theirs.LambdaLR(o, lambda step: (step + 1) / 8 if step < 8 else (8 / step) ** 0.5),
        TOTAL,
    ),
}


@pytest.mark.parametrize("case", REFERENCES)
def test_rates_equal_those_of_torchs_own_scheduler(case: str) -> None:
    schedule, build_theirs, steps = REFERENCES[case]
    optimizer, twin = sgd(), sgd()
    total = 4 + 12 + 36 if "growing" in case else TOTAL
    ours = rates(optimizer, build_scheduler(schedule, optimizer, total), steps)
    expected = rates(twin, build_theirs(twin), steps)
    assert torch.allclose(torch.tensor(ours, dtype=F64), torch.tensor(expected, dtype=F64), rtol=1e-9, atol=1e-9)
