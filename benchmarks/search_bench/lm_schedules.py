"""Language models of 124M parameters at several lengths: as losses, and 18 recipes of them as a table to search.

The recipes of the table vary AdamW's learning rate and the share of the decay: the rate is constant, and falls linearly
to zero in the last share of the steps. The looks at the full length are the shorter trainings with the same share,
because the data hold no other trainings whose rate has decayed. A look at 12,500 steps with a decay in a fifth of the
steps so far costs as much as the training of 15,000 steps that takes its place.

Data: https://github.com/fabian-sp/lr-scheduling (MIT), Schaipp et al. 2025, https://arxiv.org/abs/2501.18965.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from opttune.space.model import Branch, Choice, Space
from search_bench.tables import Table, rate_branches

NAME = "lm_schedules/124m"
STEPS = 50_000
LENGTHS = (15_000, 25_000, 35_000)
RATES = (5e-4, 1e-3, 2e-3)
DECAYS = (0.9, 0.8, 0.6, 0.4, 0.2, 0.1)
"""The decay shares. The first is the nearest to the catalog's first schedule, a linear decay over the whole length."""
LOOK_SHARE = 0.2
SETTING = ["group", "lr", "wsd_fract_decay", "scheduler"]

Losses = Mapping[tuple[object, ...], Mapping[int, float]]
"""Setting -> length in steps -> loss at its end."""


def language_models(folder: Path) -> Losses:
    """Return the final losses of the models of 124M parameters with one training per length."""
    runs = pd.read_parquet(folder / "runs.parquet")
    curves = pd.read_parquet(folder / "val_curves.parquet")
    runs = runs.join(curves.sort_values("iter").groupby("run").val_loss.last(), on="run")
    runs = runs[
        runs.group.str.startswith(("ann124", "cos-10")) & ~((runs.decay_type == "sqrt") & (runs.scheduler == "wsd"))
    ]
    return {key: rows.set_index("iterations").val_loss.to_dict() for key, rows in runs.groupby(SETTING)}


def load_lm_schedules(folder: Path) -> Table:
    """Load the 18 recipes."""
    losses = language_models(folder)
    rows = [
        {"optimizer": "adamw", "lr": rate, "schedule": "wsd", "cooldown_fraction": share}
        for share in DECAYS
        for rate in RATES
    ]
    curves = [losses[f"ann124-{share:g}", rate, share, "wsd"] for share in DECAYS for rate in RATES]
    values = np.array([[curve[steps] for steps in (*LENGTHS, STEPS)] for curve in curves])
    looked_at = tuple(round(steps / (1 + LOOK_SHARE)) for steps in LENGTHS)
    return Table(
        name=NAME,
        space=Space(
            "lm_schedules",
            optimizers=rate_branches(rows, {"adamw": {}}, STEPS),
            schedules=(Branch("wsd", (("cooldown_fraction", Choice(DECAYS, start=0)),)),),
        ),
        rows=rows,
        steps=STEPS,
        eval_steps=np.array([*looked_at, STEPS]),
        values=values,
        loss_steps=np.array([], dtype=np.int64),
        losses=np.empty((len(rows), 0)),
        look_steps=looked_at,
        looks=values[:, :-1],
        # the data lack the search's first two rungs, at 2% and 10%; this one takes their place
        shares=(looked_at[0] / STEPS,),
    )


def customary_value(folder: Path) -> float:
    """Return the final value of the customary recipe: a cosine to a tenth of a peak of 1e-3."""
    return language_models(folder)["cos-10-124m", 1e-3, 0.0, "cos"][STEPS]
