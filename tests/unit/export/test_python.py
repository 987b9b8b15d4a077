"""The exported code trains as the recipe does, to the last digit, through the real Trainer, without opttune."""

import ast
import sys
from collections.abc import Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from opttune.catalog.lookup import find_optimizer, find_schedule
from opttune.catalog.optimizers import OPTIMIZERS
from opttune.catalog.schedules import SCHEDULES
from opttune.errors import InputError
from opttune.export.python import python_text
from opttune.export.use import Use
from opttune.recipe import Groups, Part, Recipe, Rule
from opttune.training.recipe_callback import RecipeCallback
from tests.support.search_models import BATCHES, CLASSES, make_points

STEPS = 2 * BATCHES
USE = Use("trial 3 of the study s", value=0.5, length={"max_steps": STEPS}, seed=0)
NEED_OPTTUNE = {row.name for row in OPTIMIZERS if row.takes_model or row.needs_create_graph}


class Net(pl.LightningModule):
    """Has an embedding, norms, blocks of one kind, and adapters named as LoRA names them."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(4, 8)
        self.blocks = nn.Sequential(*(nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Tanh()) for _ in range(2)))
        self.lora_A = nn.Linear(8, 2, bias=False)
        self.lora_B = nn.Linear(2, 8, bias=False)
        self.head = nn.Linear(8, CLASSES)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self._loss(batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self._loss(batch))

    def _loss(self, batch: Any) -> Tensor:
        points, labels = batch
        inner = self.blocks(points + self.embed(labels % 2))
        return cross_entropy(self.head(inner + self.lora_B(self.lora_A(inner))), labels)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1e-4)


class SparseNet(Net):
    """Has an embedding with sparse gradients, which take no weight decay."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(4, 8, sparse=True)


def train(module: pl.LightningModule, callbacks: list[Any], trainer: Mapping[str, Any]) -> dict[str, Tensor]:
    pl.seed_everything(0, workers=True, verbose=False)
    module.__init__()  # type: ignore[misc]  # with the seed's weights
    train_loader = DataLoader(make_points(16 * BATCHES, 0), batch_size=16, shuffle=True)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    fitted = pl.Trainer(
        **{"max_steps": STEPS, **trainer}, callbacks=callbacks, **quiet, enable_model_summary=False,
        num_sanity_val_steps=0, accelerator="cpu",
    )  # fmt: skip
    fitted.fit(module, train_loader, DataLoader(make_points(64, 1), batch_size=64))
    return {name: value.clone() for name, value in module.state_dict().items()}


def load(text: str) -> dict[str, Any]:
    tree = ast.parse(text)
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {name for name in imported if name.split(".")[0] == "opttune"}
    module = ModuleType("exported")
    sys.modules["exported"] = module  # dataclasses look their module up
    exec(compile(text, "exported.py", "exec"), vars(module))
    return vars(module)


def assert_trains_the_same(
    recipe: Recipe, use: Use = USE, trainer: Mapping[str, Any] | None = None, model: type[Net] = Net
) -> None:
    text, _ = python_text(recipe, use)
    exported = load(text)
    hooks = (
        "configure_optimizers", "lr_scheduler_step", "on_train_start", "on_validation_start", "on_validation_end",
        "on_train_end",
    )  # fmt: skip
    pasted = type("Pasted", (model,), {name: exported[name] for name in hooks if name in exported})
    given = {**(trainer or {}), **({} if recipe.precision is None else {"precision": recipe.precision})}
    expected = train(model(), [RecipeCallback(recipe, monitor=use.monitor, mode=use.mode)], given)
    got = train(pasted(), [], {**exported["TRAINER"], **(trainer or {})})
    began = {name: value.clone() for name, value in _fresh(model).state_dict().items()}

    assert any(not torch.equal(expected[name], began[name]) for name in expected), "nothing was trained"
    for name, value in expected.items():
        assert torch.equal(value, got[name]), name


def _fresh(model: type[Net]) -> Net:
    pl.seed_everything(0, verbose=False)
    return model()


@pytest.mark.parametrize("groups", [Groups(), Groups(no_decay_norm_bias=False), Groups(layer_decay=0.7)], ids=str)
def test_an_embedding_with_sparse_gradients_goes_without_decay_there_too(groups: Groups) -> None:
    part = Part("sgd", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01})
    assert_trains_the_same(Recipe(part, Part("cosine"), groups), model=SparseNet)


def test_the_code_says_that_sparse_gradients_are_not_clipped_where_the_optimizer_takes_them() -> None:
    texts = [python_text(Recipe(Part(name), gradient_clip_norm=1.0), USE)[0] for name in ("sgd", "adamw")]

    assert ["if your module has sparse gradients, leave out gradient_clip_val" in text for text in texts] == [
        True,
        False,
    ]


def test_the_code_has_only_the_kinds_of_parameters_that_its_groups_ask_for() -> None:
    plain, _ = python_text(Recipe(Part("adamw", {"lr": 1e-3})), USE)
    bare, _ = python_text(Recipe(Part("adamw", {"lr": 1e-3}), groups=Groups(no_decay_norm_bias=False)), USE)
    matrices, _ = python_text(Recipe(Part("muon", {"lr": 1e-3})), USE)

    assert not [word for word in ("is_sparse", "is_hidden", "is_output", "_EMBEDDING_NAME") if word in plain]
    assert not [word for word in ("is_norm", "_NORM", "owners", "import re") if word in bare]
    assert all(f"def {word}(" in matrices for word in ("_output_ids", "_is_embedding", "is_hidden_matrix"))


def test_a_module_that_optimizes_manually_needs_opttune_for_its_schedule() -> None:
    with pytest.raises(InputError, match=r"adamw has a schedule .* under manual optimization: it needs opttune"):
        python_text(Recipe(Part("adamw", {"lr": 1e-3})), replace(USE, is_manual=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", [row.name for row in OPTIMIZERS if row.name not in NEED_OPTTUNE])
def test_every_optimizer_trains_the_same_to_the_last_digit(name: str) -> None:
    lr = {} if find_optimizer(name).fixed_lr else {"lr": 3e-3}
    part = Part(name, lr if "lr" in lr else {"lr": 1.0})
    # what bounds its steps itself is not clipped on top, and says so
    clip = None if find_optimizer(name).own_clipping else 0.5
    recipe = Recipe(part, Part("cosine", {"warmup_fraction": 0.2}), gradient_clip_norm=clip)

    assert_trains_the_same(recipe)


@pytest.mark.slow
@pytest.mark.parametrize("name", [row.name for row in SCHEDULES])
def test_every_schedule_trains_the_same_to_the_last_digit(name: str) -> None:
    recipe = Recipe(Part("adamw", {"lr": 1e-2, "weight_decay": 0.1}), Part(name))

    assert_trains_the_same(recipe, replace(USE, monitor="val_loss", mode="min"))


@pytest.mark.parametrize("optimizer", ["adamw", "schedule_free_adamw"])
@pytest.mark.parametrize("warmup", [0.0, 0.3])
@pytest.mark.parametrize(
    "trainer",
    [
        # each ends with a validation, as a training with a recipe does
        {"val_check_interval": 3, "check_val_every_n_epoch": None, "max_steps": 15},
        {"val_check_interval": 0.5},
        {"check_val_every_n_epoch": 2, "max_steps": 6 * BATCHES},
    ],
    ids=str,
)
def test_a_plateau_is_stepped_after_each_validation_there_too(
    trainer: dict[str, Any], warmup: float, optimizer: str
) -> None:
    schedule = {"patience_checks": 0, "improvement_fraction": 0.9, "decay_factor": 0.5, "warmup_fraction": warmup}
    assert_trains_the_same(Recipe(Part(optimizer, {"lr": 1e-2}), Part("plateau", schedule)), trainer=trainer)


GROUPS = {
    "all alike": Groups(no_decay_norm_bias=False),
    "embeddings": Groups(no_decay_embeddings=True),
    "layers": Groups(layer_decay=0.7),
    "rules": Groups(rules=(Rule("^head", lr_mult=10), Rule("blocks", 0.5, 0.1))),
    "as matrix": Groups(rules=(Rule("^head", as_matrix=True), Rule("blocks", as_matrix=False), Rule("lora"))),
    "lora": Groups(lora_plus_ratio=4.0),
    "everything": Groups(True, True, 0.9, (Rule("lora", 3.0),), 2.0),
}


@pytest.mark.slow
@pytest.mark.parametrize("groups", GROUPS.values(), ids=GROUPS)
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_every_kind_of_groups_trains_the_same_to_the_last_digit(groups: Groups, optimizer: str) -> None:
    recipe = Recipe(
        Part(optimizer, {"lr": 1e-2, "weight_decay": 0.1}), Part("linear"), groups, gradient_clip_norm=0.3,
        accumulate_grad_batches=2, precision="bf16-mixed",
    )  # fmt: skip

    assert_trains_the_same(recipe)


@pytest.mark.parametrize("name", sorted(NEED_OPTTUNE))
def test_an_optimizer_that_needs_more_than_its_steps_is_refused_with_the_way_out(name: str) -> None:
    with pytest.raises(InputError, match=rf"export: {name} .*needs opttune. Use --format recipe or lightning-cli"):
        python_text(Recipe(Part(name, {"lr": 1e-3})), USE)


def test_the_users_class_and_the_seed_are_named() -> None:
    text, _ = python_text(Recipe(Part("adamw", {"lr": 1e-3})), replace(USE, model_name="LitSeg", seed=7))
    assert "configure_optimizers into LitSeg, or bind it:\nLitSeg.configure_optimizers = configure_optimizers\n" in text
    assert "before the module is made: seed_everything(7, workers=True)" in text

    # no name that code could not say
    unnamed, _ = python_text(Recipe(Part("adamw", {"lr": 1e-3})), replace(USE, model_name="Seg[int]", seed=None))
    assert "into your LightningModule, or bind it:\nNet.configure_optimizers" in unnamed
    assert "seed_everything" not in unnamed


def test_hooks_of_the_code_are_bound_as_well() -> None:
    text, _ = python_text(Recipe(Part("adamw", {"lr": 1e-3}), Part("plateau")), replace(USE, model_name="Seg"))

    assert "or bind them:\nSeg.configure_optimizers = configure_optimizers\nSeg.on_validation_start = on_val" in text


def test_a_module_with_several_own_groups_is_refused() -> None:
    with pytest.raises(InputError, match="own optimizer has several parameter groups"):
        python_text(Recipe(Part("adamw", {"lr": 1e-3})), replace(USE, has_own_groups=True))


def test_the_package_of_a_class_is_named() -> None:
    _, torchs = python_text(Recipe(Part("adamw", {"lr": 1e-3})), USE)
    _, others = python_text(Recipe(Part("lion", {"lr": 1e-3})), USE)

    assert torchs == ()
    assert others == ("the code needs the package pytorch_optimizer.",)


def test_names_of_the_users_cannot_break_out_of_the_docstring() -> None:
    use = replace(USE, source='trial 1 of """; import os \\" """')
    text, _ = python_text(Recipe(Part("adamw", {"lr": 1e-3})), use)

    assert not any(isinstance(node, ast.Import) and node.names[0].name == "os" for node in ast.walk(ast.parse(text)))


def test_the_trainers_arguments_are_the_recipes() -> None:
    recipe = Recipe(Part("adamw", {"lr": 1e-3}), gradient_clip_norm=0.5, accumulate_grad_batches=4, precision="64-true")

    assert load(python_text(recipe, USE)[0])["TRAINER"] == {
        "max_steps": STEPS, "gradient_clip_val": 0.5, "accumulate_grad_batches": 4, "precision": "64-true",
    }  # fmt: skip
    # adafactor bounds its updates itself
    clipped = replace(recipe, optimizer=Part("adafactor", {"lr": 1e-2}))
    assert "gradient_clip_val" not in load(python_text(clipped, USE)[0])["TRAINER"]


def test_a_schedule_that_follows_the_monitor_is_torchs() -> None:
    assert find_schedule("plateau").follows_monitor
    text, _ = python_text(Recipe(Part("adamw", {"lr": 1e-3}), Part("plateau")), replace(USE, monitor="v", mode="max"))

    assert "ReduceLROnPlateau" in text
    assert "\"monitor\": 'v'" in text
    assert "total_steps" not in text
