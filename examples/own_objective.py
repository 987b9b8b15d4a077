"""opttune inside an Optuna objective of your own: `TrialCallback` samples, injects, guards, reports and tracks."""

import argparse

import lightning
import optuna
from digits import DigitsClassifier, digits_loaders

import opttune


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--max-steps", type=int, default=300)
    parser.add_argument("--trials", type=int, default=10)
    options = parser.parse_args()

    def objective(trial: optuna.Trial) -> float:
        lightning.seed_everything(0, workers=True, verbose=False)
        callback = opttune.TrialCallback(trial, "wide")
        trainer = lightning.Trainer(
            max_steps=options.max_steps,
            callbacks=[callback],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
        )
        trainer.fit(DigitsClassifier(), *digits_loaders())
        return callback.result()

    study = optuna.create_study(
        study_name="own-objective",
        sampler=opttune.OpttuneSampler("wide", seed=0),
        pruner=opttune.OpttunePruner(),
    )
    study.optimize(objective, n_trials=options.trials)
    print(f"val_loss {study.best_value:.4f} with {study.best_params}")


if __name__ == "__main__":
    main()
