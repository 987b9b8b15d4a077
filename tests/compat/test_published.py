"""Third-party modules are searched unchanged, or refused with the reason.

They need the extra `compat`. Without it these tests are skipped, unless OPTTUNE_COMPAT is set: then a package that
is missing fails.
"""

import os
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from opttune.errors import ModelError
from opttune.trainer.namespaces import NAMESPACES, is_module
from tests.compat.published import PUBLISHED, Published, _pina_problem
from tests.support.searches import run_search

IMPORTED = {
    "pytorch-forecasting": "pytorch_forecasting",
    "gluonts": "gluonts",
    "neuralforecast": "neuralforecast",
    "chemprop": "chemprop",
    "scvi-tools": "scvi",
    "pina-mathlab": "pina",
    "pytorch-tabular": "pytorch_tabular",
    "darts": "darts",
    "deeptab": "deeptab",
    "mlcolvar": "mlcolvar",
    "rl4co": "rl4co",
}

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
each = pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: row.module)


@pytest.fixture(autouse=True)
def _their_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _their_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def need(package: str) -> None:
    if find_spec(IMPORTED[package]) is None and not os.environ.get("OPTTUNE_COMPAT"):
        pytest.skip(f"{package} is not installed; it comes with the extra compat")


@each
def test_a_published_module_is_searched_or_refused(row: Published, tmp_path: Path) -> None:
    need(row.package)
    model, data = row.make()
    settings = {"data": data, "monitor": row.monitor, "mode": row.mode, "max_steps": 20, "budget": 4}
    if row.refused:
        with pytest.raises(ModelError, match=row.refused):
            run_search(tmp_path, model, **settings)
        return
    result = run_search(tmp_path, model, **settings)
    # a rate that is too high may be ended early
    assert set(result.trials["state"]) <= {"complete", "pruned"}
    assert len(result.trials) >= 3
    assert result.baseline_value is not None
    assert result.best_value is not None
    # 20 steps with a searched rate do more than those with the package's default
    sign = 1 if row.mode == "min" else -1
    assert sign * result.best_value < sign * result.baseline_value


@each
def test_it_is_of_the_name_of_lightning_that_the_table_says(row: Published) -> None:
    need(row.package)
    model, _ = row.make()
    made = model if is_module(model) else model()
    (name,) = (name.__name__ for name in NAMESPACES if isinstance(made, name.LightningModule))
    assert name.removesuffix(".pytorch") == row.namespace
    assert type(made).__name__ == row.module


def test_a_module_that_needs_its_own_trainer_is_tuned_there() -> None:
    need("pina-mathlab")
    import optuna
    from pina.solver import SupervisedSolver
    from pina.trainer import Trainer

    import opttune

    problem, _, network = _pina_problem()

    def objective(trial: optuna.Trial) -> float:
        callback = opttune.TrialCallback(trial, "adamw")
        trainer = Trainer(
            SupervisedSolver(problem, network(), use_lt=False), batch_size=16, train_size=0.8, val_size=0.2,
            test_size=0.0, callbacks=[callback], max_epochs=5, accelerator="cpu", logger=False,
            enable_progress_bar=False, enable_checkpointing=False,
        )  # fmt: skip
        trainer.train()
        return callback.result()

    study = optuna.create_study(sampler=opttune.OpttuneSampler("adamw", seed=0))
    study.optimize(objective, n_trials=2)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE"]
