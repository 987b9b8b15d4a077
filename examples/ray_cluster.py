"""Trainings as tasks of a Ray cluster: here a cluster on this machine, with two trainings at a time.

pip install 'opttune[ray]'
python examples/ray_cluster.py                            # a cluster on this machine
python examples/ray_cluster.py --ray-address 10.0.0.1:6379   # one that runs already
"""

import argparse

from digits import DigitsClassifier, digits_loaders

import opttune


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max-steps", type=int, default=300)
    parser.add_argument("--budget", type=float, default=12)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--ray-address", help="host:port of a running cluster")
    options = parser.parse_args()

    result = opttune.search(
        DigitsClassifier,
        digits_loaders,
        max_steps=options.max_steps,
        budget=options.budget,
        engine="ray",
        workers=options.workers,
        ray_address=options.ray_address,
        study="digits-ray",
    )
    states = result.trials["state"].value_counts().to_dict()
    print(f"{len(result.trials)} trials on {options.workers} workers: {states}")
    print(f"val_loss {result.best_value:.4f}, baseline {result.baseline_value:.4f} with {result.replaced}")
    print(result.best_recipe)


if __name__ == "__main__":
    main()
