"""A language model of 124M parameters trained with 18 recipes at four lengths: AdamW's rate and the share of its decay.

The recipes hold their learning rate constant and let it fall linearly to zero in the last share of the steps. For looks
at the full length stand the trainings of the shorter lengths with the same share, since the data hold no other whose
rate has come down: a look at 12,500 steps, whose rate then falls within a fifth of the steps so far, costs as much as
the training of 15,000 steps that is shown in its place.

Data: https://github.com/fabian-sp/lr-scheduling (MIT), Schaipp et al. 2025, https://arxiv.org/abs/2501.18965.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from opttune.catalog.lookup import find_optimizer
from opttune.catalog.ranges import SearchRange
from opttune.space.model import Branch, Choice, Range, Space
from search_bench.tables import Table

NAME = "lm_schedules/124m"
STEPS = 50_000
LENGTHS = (15_000, 25_000, 35_000)
RATES = (5e-4, 1e-3, 2e-3)
DECAYS = (0.9, 0.8, 0.6, 0.4, 0.2, 0.1)
"""The shares, the one that is nearest to the catalog's first schedule, a linear fall over the whole length, first."""
LOOK_SHARE = 0.2
CUSTOMARY = "cos-10-124m"
"""The group of the customary recipe, a cosine to a tenth of the peak."""


def load_lm_schedules(folder: Path) -> Table:
    """Load the 18 recipes."""
    runs, finals = _runs(folder)
    rows = [
        {"optimizer": "adamw", "lr": rate, "schedule": "wsd", "cooldown_fraction": share}
        for share in DECAYS
        for rate in RATES
    ]
    values = np.array(
        [
            [_final(runs, finals, row["lr"], row["cooldown_fraction"], steps) for steps in (*LENGTHS, STEPS)]
            for row in rows
        ]
    )
    looked_at = tuple(round(steps / (1 + LOOK_SHARE)) for steps in LENGTHS)
    return Table(
        name=NAME,
        space=_space(),
        rows=rows,
        steps=STEPS,
        eval_steps=np.array([*looked_at, STEPS]),
        values=values,
        loss_steps=np.array([], dtype=np.int64),
        losses=np.empty((len(rows), 0)),
        look_steps=looked_at,
        looks=values[:, :-1],
        # the search's first two rungs, at 2% and 10%, are not in the data: this one takes their place
        shares=(looked_at[0] / STEPS,),
    )


def customary_value(folder: Path) -> float:
    """Return the final value of the customary recipe at the customary rate."""
    runs, finals = _runs(folder)
    found = runs[(runs.group == CUSTOMARY) & (runs.lr == 1e-3) & (runs.iterations == STEPS)].index
    return float(finals[found].item())


def _runs(folder: Path) -> tuple[pd.DataFrame, "pd.Series[float]"]:
    runs = pd.read_parquet(folder / "runs.parquet").set_index("run")
    curves = pd.read_parquet(folder / "val_curves.parquet").sort_values("iter")
    return runs, curves.groupby("run").val_loss.last()


def _final(runs: pd.DataFrame, finals: "pd.Series[float]", rate: float, share: float, steps: int) -> float:
    found = runs[
        runs.group.eq(f"ann124-{share:g}") & runs.decay_type.eq("linear") & runs.lr.eq(rate) & runs.iterations.eq(steps)
    ].index
    return float(finals[found].item())


def _space() -> Space:
    search = find_optimizer("adamw").options[0].searchable["lr"]
    if not isinstance(search, SearchRange):
        raise TypeError("the catalog has no range for AdamW's learning rate")
    low, high = min(RATES), max(RATES)
    rate = Range(low, high, "log", prior=min(high, max(low, search.centre_for(STEPS))))
    return Space(
        "lm_schedules",
        optimizers=(Branch("adamw", (("lr", rate),)),),
        schedules=(Branch("wsd", (("cooldown_fraction", Choice(DECAYS, start=0)),)),),
    )
