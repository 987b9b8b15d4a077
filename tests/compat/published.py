"""LightningModules of published packages, as their users make them, on small generated data.

Each function returns the model, or a function that makes it, and the data. What it needs is imported inside: a
package that is not installed is then missed by its own test alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Published:
    """A row of the table of published modules.

    Attributes:
        module: The class's name.
        package: The package on PyPI.
        field: What it is for.
        namespace: The name of Lightning that it is written for.
        make: Returns the model, or what makes it, and the data.
        monitor: The metric that a search looks at.
        mode: "min" or "max": which of its values are better.
        refused: What the refusal says; empty where a search goes through.
        note: What its users should know.
    """

    module: str
    package: str
    field: str
    namespace: str
    make: Callable[[], tuple[Any, Any]]
    monitor: str = "val_loss"
    mode: str = "min"
    refused: str = ""
    note: str = ""


def _series(count: int, length: int) -> pd.DataFrame:
    """Return noisy waves, one a series, in long form: series, time, value."""
    random = np.random.default_rng(0)
    frames = []
    for series in range(count):
        waves = np.sin(np.arange(length) * (0.2 + 0.05 * series)) + 0.1 * random.standard_normal(length)
        frames.append(pd.DataFrame({"series": str(series), "time": np.arange(length), "value": waves + 3}))
    return pd.concat(frames, ignore_index=True).astype({"value": "float32"})


def _pytorch_forecasting_data(**more: Any) -> Any:
    from pytorch_forecasting import TimeSeriesDataSet

    known = {"time_idx": "time", "target": "value", "group_ids": ["series"], "time_varying_unknown_reals": ["value"]}
    train = TimeSeriesDataSet(
        _series(6, 60), **known, max_encoder_length=16, max_prediction_length=4, min_encoder_length=16, **more
    )
    val = TimeSeriesDataSet.from_dataset(train, _series(6, 60), predict=True, stop_randomization=True)
    return train, (train.to_dataloader(train=True, batch_size=16), val.to_dataloader(train=False, batch_size=16))


def temporal_fusion_transformer() -> tuple[Any, Any]:
    from pytorch_forecasting import TemporalFusionTransformer
    from pytorch_forecasting.metrics import QuantileLoss

    train, loaders = _pytorch_forecasting_data()
    return lambda: TemporalFusionTransformer.from_dataset(
        train, hidden_size=4, hidden_continuous_size=4, attention_head_size=1, loss=QuantileLoss(), learning_rate=1e-4
    ), loaders


def nbeats() -> tuple[Any, Any]:
    from pytorch_forecasting import NBeats

    train, loaders = _pytorch_forecasting_data()
    return lambda: NBeats.from_dataset(train, widths=[16, 16], num_blocks=[1, 1], learning_rate=1e-5), loaders


def message_passing_network() -> tuple[Any, Any]:
    from chemprop import data, featurizers, models, nn

    smiles = ["C" * length + end for length in range(1, 12) for end in ("", "O", "N", "Cl", "=O", "C(=O)O")]
    points = [data.MoleculeDatapoint.from_smi(text, [float(len(text))]) for text in smiles]
    featurizer = featurizers.SimpleMoleculeMolGraphFeaturizer()
    parts = [data.MoleculeDataset(points[start::2], featurizer) for start in (0, 1)]
    loaders = [
        data.build_dataloader(part, batch_size=16, num_workers=0, shuffle=start == 0)
        for start, part in enumerate(parts)
    ]

    def make() -> Any:
        return models.MPNN(nn.BondMessagePassing(d_h=32), nn.MeanAggregation(), nn.RegressionFFN(input_dim=32))

    return make, tuple(loaders)


def nhits() -> tuple[Any, Any]:
    from neuralforecast.losses.pytorch import MAE
    from neuralforecast.models import NHITS
    from neuralforecast.tsdataset import TimeSeriesDataModule, TimeSeriesDataset

    frame = _series(6, 80).rename(columns={"series": "unique_id", "time": "ds", "value": "y"})
    dataset, *_ = TimeSeriesDataset.from_df(frame)
    model = NHITS(h=4, input_size=16, loss=MAE(), mlp_units=3 * [[16, 16]], windows_batch_size=32, max_steps=40)
    # what its own `fit` sets before it trains
    model.val_size, model.test_size = 8, 0
    return model, TimeSeriesDataModule(dataset, batch_size=6)


def single_cell_vae() -> tuple[Any, Any]:
    import anndata
    from scvi.dataloaders import DataSplitter
    from scvi.model import SCVI
    from scvi.train import TrainingPlan

    cells = anndata.AnnData(np.random.default_rng(0).poisson(2.0, (256, 40)).astype("float32"))
    SCVI.setup_anndata(cells)
    model = SCVI(cells, n_hidden=16, n_latent=4)
    return TrainingPlan(model.module), DataSplitter(
        model.adata_manager, train_size=0.8, validation_size=0.2, batch_size=64
    )


def deep_autoregression() -> tuple[Any, Any]:
    from gluonts.dataset.common import ListDataset
    from gluonts.torch.model.deepar import DeepAREstimator

    groups = _series(6, 80).groupby("series")
    waves = [{"start": "2026-01-01", "target": frame["value"].to_numpy()} for _, frame in groups]
    estimator = DeepAREstimator(
        freq="h", prediction_length=4, context_length=8, hidden_size=8, num_layers=1, lags_seq=[1, 2], batch_size=16
    )
    transformation = estimator.create_transformation()
    transformed = list(transformation.apply(ListDataset(waves, freq="h"), is_train=True))

    # endless in training: an IterableDataset
    def loaders() -> tuple[Any, Any]:
        module = estimator.create_lightning_module()
        train = estimator.create_training_data_loader(transformed, module)
        return train, estimator.create_validation_data_loader(transformed, module)

    return estimator.create_lightning_module, loaders


def supervised_solver() -> tuple[Any, Any]:
    from pina.solver import SupervisedSolver

    problem, data, network = _pina_problem()
    return lambda: SupervisedSolver(problem, network(), use_lt=False), data


def competitive_solver() -> tuple[Any, Any]:
    from pina.data import DataModule
    from pina.model import FeedForward
    from pina.problem.zoo import Poisson2DSquareProblem
    from pina.solver import CompetitivePINN

    problem = Poisson2DSquareProblem()
    problem.discretise_domain(6, "grid")
    batches = {"batch_size": 16, "batching_mode": "common_batch_size", "automatic_batching": False, "shuffle": True}

    def make_data() -> Any:
        return DataModule(
            problem, train_size=0.8, val_size=0.2, test_size=0.0, num_workers=0, pin_memory=False, **batches
        )

    return lambda: CompetitivePINN(problem, FeedForward(2, 1, layers=[8])), make_data


def _pina_problem() -> tuple[Any, Any, Any]:
    import torch
    from pina.data import DataModule
    from pina.model import FeedForward
    from pina.problem.zoo import SupervisedProblem

    x = torch.linspace(0, 1, 64).reshape(-1, 1)
    problem = SupervisedProblem(x, torch.sin(6 * x))
    batches = {"batch_size": 16, "batching_mode": "common_batch_size", "automatic_batching": False, "shuffle": True}

    def make_data() -> Any:
        return DataModule(
            problem, train_size=0.8, val_size=0.2, test_size=0.0, num_workers=0, pin_memory=False, **batches
        )

    return problem, make_data, lambda: FeedForward(1, 1, layers=[16])


def tabular_embeddings() -> tuple[Any, Any]:
    from pytorch_tabular import TabularModel
    from pytorch_tabular.config import DataConfig, OptimizerConfig, TrainerConfig
    from pytorch_tabular.models import CategoryEmbeddingModelConfig

    random = np.random.default_rng(0)
    table = pd.DataFrame(random.standard_normal((256, 3)).astype("float32"), columns=["a", "b", "c"])
    table["kind"] = random.choice(["x", "y", "z"], 256)
    table["target"] = (table["a"] - 2 * table["b"] + (table["kind"] == "x")).astype("float32")
    tabular = TabularModel(
        data_config=DataConfig(
            target=["target"], continuous_cols=["a", "b", "c"], categorical_cols=["kind"], num_workers=0
        ),
        model_config=CategoryEmbeddingModelConfig(task="regression", layers="16-16", learning_rate=1e-4),
        optimizer_config=OptimizerConfig(),
        trainer_config=TrainerConfig(batch_size=32),
        verbose=False,
    )
    data = tabular.prepare_dataloader(train=table[:192], validation=table[192:])
    # what its own `train` passes to a Trainer: the data module is set up already
    return lambda: tabular.prepare_model(data), (data.train_dataloader(), data.val_dataloader())


def global_forecast() -> tuple[Any, Any]:
    from darts import TimeSeries
    from darts.models import TiDEModel

    wave = TimeSeries.from_values(_series(1, 200)["value"].to_numpy())

    # what its own `fit` passes to a Trainer of its own
    def parts() -> Any:
        forecaster = TiDEModel(16, 4, hidden_size=16, batch_size=16, optimizer_kwargs={"lr": 1e-5}, random_state=0)
        (_, datasets) = forecaster._setup_for_fit_from_dataset(wave[:140], val_series=wave[140:])[:2]
        return forecaster._setup_for_train(**datasets)

    return lambda: parts()["model"], lambda: parts()["datamodule"]


def tabular_task() -> tuple[Any, Any]:
    from deeptab.configs import MLPConfig, TrainerConfig
    from deeptab.models import MLPRegressor

    random = np.random.default_rng(0)
    table = pd.DataFrame(random.standard_normal((256, 3)), columns=["a", "b", "c"])
    target = (table["a"] - 2 * table["b"]).to_numpy()
    regressor = MLPRegressor(MLPConfig(layer_sizes=[16, 16]), trainer_config=TrainerConfig(lr=1e-5))
    regressor.build_model(table, target, batch_size=32)
    return regressor._task_model, regressor._data_module


def collective_variables() -> tuple[Any, Any]:
    import torch
    from mlcolvar.cvs import AutoEncoderCV
    from mlcolvar.data import DictDataset, DictModule

    angles = 6 * torch.rand(256, 1, generator=torch.Generator().manual_seed(0))
    positions = DictDataset({"data": torch.cat([angles.sin(), angles.cos(), angles.sin() * angles.cos()], dim=1)})

    def make() -> Any:
        module = AutoEncoderCV([3, 16, 1], options={"encoder": {"activation": "tanh"}})
        module.optimizer_kwargs = {"lr": 1e-5}
        return module

    return make, lambda: DictModule(positions, batch_size=32)


def attention_model() -> tuple[Any, Any]:
    from rl4co.envs import TSPEnv
    from rl4co.models import AttentionModel

    sizes = {"train_data_size": 64, "val_data_size": 16, "test_data_size": 4, "batch_size": 16}
    policy = {"embed_dim": 16, "num_encoder_layers": 1, "num_heads": 2, "feedforward_hidden": 16}
    return lambda: AttentionModel(
        TSPEnv(generator_params={"num_loc": 5}), baseline="exponential", policy_kwargs=policy,
        optimizer_kwargs={"lr": 1e-6}, **sizes,
    ), None  # fmt: skip


PUBLISHED = (
    Published(
        "TemporalFusionTransformer", "pytorch-forecasting", "time series", "lightning", temporal_fusion_transformer
    ),
    Published("NBeats", "pytorch-forecasting", "time series", "lightning", nbeats),
    Published(
        "DeepARLightningModule", "gluonts", "time series", "lightning", deep_autoregression,
        note="its loader is an endless IterableDataset, so give the length as `max_steps`",
    ),
    Published(
        "NHITS", "neuralforecast", "time series", "pytorch_lightning", nhits, "ptl/val_loss",
        note="train the module itself with its `TimeSeriesDataModule`; its `fit` creates another Trainer",
    ),
    Published("MPNN", "chemprop", "chemistry", "lightning", message_passing_network),
    Published(
        "TrainingPlan", "scvi-tools", "single-cell biology", "lightning", single_cell_vae, "elbo_validation",
        note="the training plan of a model, with a `DataSplitter`",
    ),
    Published(
        "SupervisedSingleModelSolver", "pina-mathlab", "physics", "lightning", supervised_solver,
        refused="'Trainer' object has no attribute 'logging_kwargs'",
        note="runs only in PINA's own Trainer; tune it there with `TrialCallback`",
    ),
    Published(
        "CompetitivePhysicsInformedSolver", "pina-mathlab", "physics", "lightning", competitive_solver,
        refused="'Trainer' object has no attribute 'logging_kwargs'",
        note="runs only in PINA's own Trainer",
    ),
    Published(
        "CategoryEmbeddingModel", "pytorch-tabular", "tables", "pytorch_lightning", tabular_embeddings, "valid_loss",
        note="the module of `prepare_model`, with the two loaders of the data module that `prepare_dataloader` returns",
    ),
    Published(
        "_TideModule", "darts", "time series", "pytorch_lightning", global_forecast,
        note="train the module itself with its data module; its `fit` creates another Trainer",
    ),
    Published(
        "TaskModel", "deeptab", "tables", "lightning", tabular_task,
        note="an estimator's `build_model` makes it with its data; its `fit` creates another Trainer",
    ),
    Published("AutoEncoderCV", "mlcolvar", "molecular dynamics", "lightning", collective_variables, "valid_loss"),
    Published("AttentionModel", "rl4co", "routing", "lightning", attention_model, "val/reward", mode="max"),
)  # fmt: skip
