"""Large batches by accumulation: LAMB against AdamW and Nesterov momentum, 8 batches of 64 a step.

python examples/large_batch.py
"""

import argparse

import torch
from digits import DigitsClassifier, digits_loaders

import opttune


class LargeBatchClassifier(DigitsClassifier):
    """The classifier of `digits.py` with the customary recipe for large batches."""

    def configure_optimizers(self):
        # 0.1 for 256 examples, scaled with the batch of 512 (arxiv.org/abs/1706.02677)
        return torch.optim.SGD(self.parameters(), lr=0.2, momentum=0.9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max-steps", type=int, default=60)
    parser.add_argument("--budget", type=float, default=12)
    options = parser.parse_args()

    result = opttune.search(
        LargeBatchClassifier,
        digits_loaders,
        space="lamb_large_batch",
        max_steps=options.max_steps,
        budget=options.budget,
        trainer={"accumulate_grad_batches": 8},
    )
    print(f"val_loss {result.best_value:.4f}, baseline {result.baseline_value:.4f} with {result.replaced}")
    valued = result.trials.dropna(subset=["value"])
    for optimizer, best in valued.groupby("optimizer")["value"].min().sort_values().items():
        print(f"{optimizer:10} {best:.4f}")
    print(result.best_recipe)


if __name__ == "__main__":
    main()
